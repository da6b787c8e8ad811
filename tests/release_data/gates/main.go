// Copyright (c) 2026, kube_storage.upgrade contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Prints as JSON the feature gates that the control plane of one Kubernetes release knows, and those that are locked.
package main

import (
	"encoding/json"
	"os"

	utilfeature "k8s.io/apiserver/pkg/util/feature"
	logs "k8s.io/component-base/logs/api/v1"
	metrics "k8s.io/component-base/metrics/features"
	_ "k8s.io/controller-manager/pkg/features/register"
	_ "k8s.io/kubernetes/pkg/features"
)

type answer struct {
	// Known has every gate.
	Known []string `json:"known"`
	// Locked has those that accept no other value than their default, and that.
	Locked map[string]bool `json:"locked"`
}

func main() {
	must(logs.AddFeatureGates(utilfeature.DefaultMutableFeatureGate))
	must(metrics.AddFeatureGates(utilfeature.DefaultMutableFeatureGate))
	result := answer{Locked: map[string]bool{}}
	for name, spec := range utilfeature.DefaultMutableFeatureGate.GetAll() {
		result.Known = append(result.Known, string(name))
		if spec.LockToDefault {
			result.Locked[string(name)] = spec.Default
		}
	}
	must(json.NewEncoder(os.Stdout).Encode(result))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
