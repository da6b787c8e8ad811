// Copyright (c) 2026, kube_storage.upgrade contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// kube-storage-version-migrator's controller, as its own main starts it.
package main

import (
	"context"
	"os"
	"os/signal"

	"k8s.io/component-base/cli"
	"sigs.k8s.io/kube-storage-version-migrator/cmd/migrator/app"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(cli.Run(app.NewMigratorCommand(ctx)))
}
