// Copyright (c) 2026, kube_storage.upgrade contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// etcdutl, with what restores a snapshot and shows its status.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
)

func main() {
	command := &cobra.Command{Use: "etcdutl", SilenceUsage: true}
	command.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "simple, json or table")
	command.AddCommand(etcdutl.NewSnapshotCommand())
	if command.Execute() != nil {
		os.Exit(1)
	}
}
