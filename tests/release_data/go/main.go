// Copyright (c) 2026, kube_storage.upgrade contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Prints as JSON what one Kubernetes release can decode, and in which version it stores each resource.
//
// It is built once for each release, against that release's modules. known_types.go, which the
// generator writes beside it, imports the API groups that the release's API server knows.
package main

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/options"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	"k8s.io/apimachinery/pkg/api/meta"
	aggregator "k8s.io/kube-aggregator/pkg/apiserver/scheme"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/kubeapiserver"
)

type answer struct {
	// Decodes has for each group and kind the versions that can be read.
	Decodes map[string]map[string][]string `json:"decodes"`
	// Stores has for each resource, such as deployments.apps, the version that it is written in.
	Stores map[string]string `json:"stores"`
	// Kinds has for each resource its kind.
	Kinds map[string]string `json:"kinds"`
}

func main() {
	options.NewServerRunOptions() // registers which release this is; storage versions depend on it
	result := answer{map[string]map[string][]string{}, map[string]string{}, map[string]string{}}
	extensions := runtime.NewScheme()
	apiextensions.Install(extensions)
	for _, scheme := range []*runtime.Scheme{legacyscheme.Scheme, extensions, aggregator.Scheme} {
		decodes(scheme, result)
	}
	stores(legacyscheme.Scheme, result)
	must(json.NewEncoder(os.Stdout).Encode(result))
}

// Whatever can be stored has a list kind beside it; reviews, options and the like have none.
func decodes(scheme *runtime.Scheme, result answer) {
	for kind := range scheme.AllKnownTypes() {
		if kind.Version == runtime.APIVersionInternal || kind.Version == "" {
			continue
		}
		if !scheme.Recognizes(kind.GroupVersion().WithKind(kind.Kind + "List")) {
			continue
		}
		if result.Decodes[kind.Group] == nil {
			result.Decodes[kind.Group] = map[string][]string{}
		}
		result.Decodes[kind.Group][kind.Kind] = append(result.Decodes[kind.Group][kind.Kind], kind.Version)
	}
}

func stores(scheme *runtime.Scheme, result answer) {
	enabled := serverstorage.NewResourceConfig()
	enabled.EnableVersions(scheme.PrioritizedVersionsAllGroups()...)
	config := kubeapiserver.NewStorageFactoryConfig()
	config.APIResourceConfig = enabled
	etcd := options.NewEtcdOptions(storagebackend.NewDefaultConfig("/registry", nil))
	etcd.DefaultStorageMediaType = runtime.ContentTypeProtobuf
	factory, err := config.Complete(etcd).New()
	must(err)
	for group, kinds := range result.Decodes {
		if !scheme.IsGroupRegistered(group) {
			continue
		}
		for kind := range kinds {
			internal := schema.GroupVersionKind{Group: group, Version: runtime.APIVersionInternal, Kind: kind}
			example, err := scheme.New(internal)
			if err != nil {
				continue
			}
			plural, _ := meta.UnsafeGuessKindToResource(internal)
			resource := plural.GroupResource()
			written, found := encodedAs(factory, resource, example, internal)
			if !found || !scheme.Recognizes(written) {
				continue
			}
			result.Stores[resource.String()] = strings.TrimPrefix(written.GroupVersion().String(), "/")
			result.Kinds[resource.String()] = kind
		}
	}
}

// NewConfig took no example before Kubernetes 1.31; hence by reflection.
func encodedAs(factory *serverstorage.DefaultStorageFactory, resource schema.GroupResource, example runtime.Object,
	internal schema.GroupVersionKind) (schema.GroupVersionKind, bool) {
	method := reflect.ValueOf(factory).MethodByName("NewConfig")
	arguments := []reflect.Value{reflect.ValueOf(resource), reflect.ValueOf(example)}
	results := method.Call(arguments[:method.Type().NumIn()])
	if !results[1].IsNil() {
		return schema.GroupVersionKind{}, false
	}
	versioner := results[0].Interface().(*storagebackend.ConfigForResource).EncodeVersioner
	return versioner.KindForGroupVersionKinds([]schema.GroupVersionKind{internal})
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
