// Copyright (c) 2026, kube_storage.upgrade contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const group = "benchmark"

// Metadata as long as that of an object that kubectl made and a controller has touched.
const managedFields = `[{"manager":"kubectl-client-side-apply","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z",` +
	`"fieldsType":"FieldsV1","fieldsV1":{"f:data":{".":{},"f:key":{}},"f:metadata":{"f:annotations":{".":{},` +
	`"f:kubectl.kubernetes.io/last-applied-configuration":{}}}}},{"manager":"some-controller","operation":"Update","apiVersion":"v1",` +
	`"time":"2026-01-01T00:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:app":{}}}}}]`

// stub is an API server that answers at once: it shows what a client can do on its own. It knows just what
// the collection asks: discovery, its own rights, a Lease, lists of metadata and patches, which all succeed.
func stub(arguments []string) error {
	flags := flag.NewFlagSet("stub", flag.ExitOnError)
	listen := flags.String("listen", "127.0.0.1:0", "address")
	cert := flags.String("cert", "", "certificate")
	key := flags.String("key", "", "its key")
	resources := flags.Int("resources", 1, "number of resources")
	objects := flags.Int("objects", 1000, "objects of each")
	flags.Parse(arguments)
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Printf("https://%s\n", listener.Addr())
	server := &stubServer{resources: *resources, objects: *objects}
	return http.ServeTLS(listener, server, *cert, *key)
}

type stubServer struct {
	resources, objects int
	patches, lists     atomic.Int64
	mutex              sync.Mutex
	lease              map[string]any
	tenths             map[int64]int // patches by tenth of a second
}

func (s *stubServer) ServeHTTP(to http.ResponseWriter, request *http.Request) {
	path := request.URL.Path
	to.Header().Set("Content-Type", "application/json")
	switch {
	case request.Method == "PATCH":
		s.patch(to, request)
	case strings.HasPrefix(path, "/apis/"+group+"/v1/"):
		s.list(to, request)
	case path == "/readyz":
		io.WriteString(to, "ok")
	case path == "/metrics/slis":
		// That it is still the same process, without which no run resumes another one.
		io.WriteString(to, "process_start_time_seconds 1.5\n")
	case path == "/version":
		io.WriteString(to, `{"major":"1","minor":"37","gitVersion":"v1.37.2"}`)
	case path == "/api":
		io.WriteString(to, `{"kind":"APIVersions","versions":["v1"]}`)
	case path == "/api/v1":
		io.WriteString(to, `{"kind":"APIResourceList","groupVersion":"v1","resources":[]}`)
	case path == "/apis":
		fmt.Fprintf(to, `{"kind":"APIGroupList","groups":[{"name":%q,"versions":[{"groupVersion":"%s/v1","version":"v1"}]}]}`, group, group)
	case path == "/apis/"+group+"/v1":
		s.discovery(to)
	case strings.Contains(path, "/leases"):
		s.leases(to, request)
	case strings.HasSuffix(path, "/selfsubjectaccessreviews"):
		io.WriteString(to, `{"kind":"SelfSubjectAccessReview","status":{"allowed":true}}`)
	case path == "/stats":
		s.stats(to, request.URL.Query().Get("lease") == "keep")
	case request.Method == "GET" && strings.HasPrefix(path, "/apis/apiregistration.k8s.io/"):
		io.WriteString(to, `{"kind":"APIServiceList","items":[]}`)
	default:
		to.WriteHeader(http.StatusNotFound)
		io.WriteString(to, `{"kind":"Status","status":"Failure","reason":"NotFound","code":404,"message":"not in the stub"}`)
	}
}

func (s *stubServer) discovery(to io.Writer) {
	var all []string
	for i := range s.resources {
		kind := fmt.Sprintf("Thing%02d", i)
		sum := sha256.Sum256([]byte(group + "/v1/" + kind))
		hash := base64.StdEncoding.EncodeToString(sum[:8])
		all = append(all, fmt.Sprintf(`{"name":"thing%02ds","kind":%q,"namespaced":true,"verbs":["get","list","patch"],"storageVersionHash":%q}`, i, kind, hash))
	}
	fmt.Fprintf(to, `{"kind":"APIResourceList","groupVersion":"%s/v1","resources":[%s]}`, group, strings.Join(all, ","))
}

func metadataOf(number int, version string) string {
	name := fmt.Sprintf("object-%07d", number)
	return `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"` + name + `","namespace":"bench",` +
		`"uid":"00000000-0000-4000-8000-` + fmt.Sprintf("%012d", number) + `","resourceVersion":"` + version + `",` +
		`"creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"bench"},"annotations":{"kubectl.kubernetes.io/` +
		`last-applied-configuration":"{\"apiVersion\":\"v1\",\"data\":{\"key\":\"value\"},\"kind\":\"Thing\",\"metadata\":{}}"},` +
		`"managedFields":` + managedFields + `}}`
}

func (s *stubServer) list(to io.Writer, request *http.Request) {
	s.lists.Add(1)
	query := request.URL.Query()
	from, _ := strconv.Atoi(query.Get("continue"))
	limit, _ := strconv.Atoi(query.Get("limit"))
	end := min(from+limit, s.objects)
	next := ""
	if end < s.objects {
		next = strconv.Itoa(end)
	}
	fmt.Fprintf(to, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"9","continue":%q,"remainingItemCount":%d},"items":[`, next, s.objects-end)
	for i := from; i < end; i++ {
		if i > from {
			io.WriteString(to, ",")
		}
		io.WriteString(to, metadataOf(i, "1"))
	}
	io.WriteString(to, "]}\n")
}

func (s *stubServer) patch(to io.Writer, request *http.Request) {
	io.Copy(io.Discard, request.Body)
	s.patches.Add(1)
	tenth := time.Now().UnixMilli() / 100
	s.mutex.Lock()
	if s.tenths == nil {
		s.tenths = map[int64]int{}
	}
	s.tenths[tenth]++
	s.mutex.Unlock()
	number, _ := strconv.Atoi(request.URL.Path[strings.LastIndex(request.URL.Path, "-")+1:])
	io.WriteString(to, metadataOf(number, "2"))
}

func (s *stubServer) leases(to http.ResponseWriter, request *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if request.Method != "GET" {
		json.NewDecoder(request.Body).Decode(&s.lease)
	}
	if s.lease == nil {
		to.WriteHeader(http.StatusNotFound)
		io.WriteString(to, `{"kind":"Status","reason":"NotFound","code":404}`)
		return
	}
	json.NewEncoder(to).Encode(s.lease)
}

// stats reports what was asked since the last time, and forgets it.
func (s *stubServer) stats(to io.Writer, keepLease bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	json.NewEncoder(to).Encode(map[string]any{"patches": s.patches.Swap(0), "lists": s.lists.Swap(0), "tenths": s.tenths})
	s.tenths = nil
	if !keepLease {
		s.lease = nil
	}
}
