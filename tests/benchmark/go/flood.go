// Copyright (c) 2026, kube_storage.upgrade contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

const metadata = "application/json;as=PartialObjectMetadata%s;g=meta.k8s.io;v=v1"

type object struct {
	Metadata struct{ Name, Namespace, ResourceVersion string }
}

// flood sends the same patch as the collection does, to every object of one resource, as fast as that goes:
// no plan, no check of the servers, no retries, no accounting. What it reaches is the limit of the API server.
func flood(arguments []string) error {
	flags := flag.NewFlagSet("flood", flag.ExitOnError)
	server := targetFlags(flags)
	base := flags.String("base", "/api/v1", "path of the group version")
	plural := flags.String("resource", "configmaps", "plural name of the resource")
	concurrency := flags.Int("concurrency", 16, "patches in flight")
	flags.Parse(arguments)
	client, err := server.client(*concurrency + 1)
	if err != nil {
		return err
	}
	servers := strings.Split(*server.server, ",")
	started := time.Now()
	queue := make(chan object, 1000)
	listed := make(chan error, 1)
	go func() {
		defer close(queue)
		listed <- list(client, servers[0]+*base+"/"+*plural, queue)
	}()
	var (
		mutex                   sync.Mutex
		workers                 sync.WaitGroup
		rewritten, same, failed int
		latencies               []time.Duration
	)
	for worker := range *concurrency {
		workers.Add(1)
		go func() {
			defer workers.Done()
			address := servers[worker%len(servers)]
			for one := range queue {
				path := *base + "/namespaces/" + one.Metadata.Namespace + "/" + *plural + "/" + one.Metadata.Name
				sent := time.Now()
				status, body, err := patch(client, address+path, one.Metadata.ResourceVersion)
				took := time.Since(sent)
				mutex.Lock()
				latencies = append(latencies, took)
				switch {
				case err != nil || status != http.StatusOK:
					failed++
				case bytes.Contains(body, []byte(`"resourceVersion":"`+one.Metadata.ResourceVersion+`"`)):
					same++
				default:
					rewritten++
				}
				mutex.Unlock()
			}
		}()
	}
	workers.Wait()
	if err := <-listed; err != nil {
		return err
	}
	seconds := time.Since(started).Seconds()
	return printJSON(map[string]any{
		"rewritten": rewritten, "unchanged": same, "failed": failed, "seconds": seconds,
		"rate":   float64(rewritten+same+failed) / seconds,
		"p50_ms": percentile(latencies, 0.5), "p99_ms": percentile(latencies, 0.99),
		"started": float64(started.UnixMicro()) / 1e6,
	})
}

func list(client *http.Client, address string, queue chan<- object) error {
	token := ""
	for {
		request, _ := http.NewRequest("GET", address+"?limit=500&continue="+url.QueryEscape(token), nil)
		request.Header.Set("Accept", fmt.Sprintf(metadata, "List"))
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		var page struct {
			Metadata struct{ Continue string }
			Items    []object
		}
		err = json.NewDecoder(answer.Body).Decode(&page)
		answer.Body.Close()
		if err != nil || answer.StatusCode != http.StatusOK {
			return fmt.Errorf("the list was answered with %s (%v)", answer.Status, err)
		}
		for _, one := range page.Items {
			queue <- one
		}
		if token = page.Metadata.Continue; token == "" {
			return nil
		}
	}
}

func patch(client *http.Client, address, version string) (int, []byte, error) {
	body := `{"metadata":{"resourceVersion":"` + version + `"}}`
	request, _ := http.NewRequest("PATCH", address, bytes.NewBufferString(body))
	request.Header.Set("Accept", fmt.Sprintf(metadata, ""))
	request.Header.Set("Content-Type", "application/merge-patch+json")
	answer, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}
