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
	"os"
	"sync"
	"time"
)

// fill puts many objects straight into etcd through its JSON gateway, each a copy of one template with another
// name and uid of the same length; that is some fifty times as fast as creating them through an API server.
func fill(arguments []string) error {
	flags := flag.NewFlagSet("fill", flag.ExitOnError)
	server := targetFlags(flags)
	template := flags.String("template", "", "file with the value of object-0000000")
	prefix := flags.String("prefix", "", "key of the objects up to the name, such as /registry/configmaps/bench/")
	first := flags.Int("first", 0, "number of the first object")
	count := flags.Int("count", 0, "number of objects")
	most := flags.Int("batch", 128, "objects in one transaction; at most etcd's --max-txn-ops, and its --max-request-bytes")
	flags.Parse(arguments)
	value, err := os.ReadFile(*template)
	if err != nil {
		return err
	}
	client, err := server.client(4)
	if err != nil {
		return err
	}
	batches := make(chan int)
	failures := make(chan error, 4)
	var workers sync.WaitGroup
	var revision struct {
		sync.Mutex
		last string
	}
	started := time.Now()
	for range 4 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for from := range batches {
				found, err := put(client, *server.server, *prefix, value, from, min(from+*most, *first+*count))
				if err != nil {
					failures <- err
					return
				}
				revision.Lock()
				if len(found) > len(revision.last) || len(found) == len(revision.last) && found > revision.last {
					revision.last = found
				}
				revision.Unlock()
			}
		}()
	}
	done := make(chan struct{})
	go func() { workers.Wait(); close(done) }()
feed:
	for from := *first; from < *first+*count; from += *most {
		select {
		case batches <- from:
		case <-done:
			break feed
		}
	}
	close(batches)
	<-done
	select {
	case err := <-failures:
		return err
	default:
	}
	return printJSON(map[string]any{"revision": revision.last, "seconds": time.Since(started).Seconds()})
}

type operation struct {
	Put struct {
		Key   []byte `json:"key"`
		Value []byte `json:"value"`
	} `json:"request_put"`
}

func put(client *http.Client, server, prefix string, template []byte, from, to int) (string, error) {
	operations := make([]operation, to-from)
	for i := range operations {
		number := fmt.Sprintf("%07d", from+i)
		name := "object-" + number
		value := bytes.ReplaceAll(template, []byte("object-0000000"), []byte(name))
		value = bytes.ReplaceAll(value, []byte("-000000000000"), []byte("-00000"+number))
		operations[i].Put.Key = []byte(prefix + name)
		operations[i].Put.Value = value
	}
	body, err := json.Marshal(map[string]any{"success": operations})
	if err != nil {
		return "", err
	}
	answer, err := post(client, server+"/v3/kv/txn", body)
	if err != nil {
		return "", err
	}
	var result struct{ Header struct{ Revision string } }
	err = json.Unmarshal(answer, &result)
	return result.Header.Revision, err
}

func post(client *http.Client, address string, body []byte) ([]byte, error) {
	answer, err := client.Post(address, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("etcd answered %s: %.300s", answer.Status, text)
	}
	return text, err
}
