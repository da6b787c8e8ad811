// Copyright (c) 2026, kube_storage.upgrade contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// neighbour is another client of the API servers: at a steady rate it gets and patches one ConfigMap and lists a namespace,
// until it is told to end, and then prints when each request was sent and how many milliseconds its answer took.
func neighbour(arguments []string) error {
	flags := flag.NewFlagSet("neighbour", flag.ExitOnError)
	server := targetFlags(flags)
	namespace := flags.String("namespace", "neighbours", "that holds the ConfigMaps, and what is listed")
	name := flags.String("name", "one", "the ConfigMap that is got and patched")
	rate := flags.Float64("rate", 20, "GETs a second, and as many PATCHes")
	lists := flags.Float64("lists", 4, "LISTs a second")
	flags.Parse(arguments)
	client, err := server.client(64)
	if err != nil {
		return err
	}
	var (
		mutex   sync.Mutex
		samples = map[string][][2]float64{"get": {}, "patch": {}, "list": {}}
		failed  int
		why     string
		skipped int
		under   sync.WaitGroup
	)
	servers := strings.Split(*server.server, ",")
	path := "/api/v1/namespaces/" + *namespace + "/configmaps"
	send := func(turn int, what string) {
		defer under.Done()
		address, method, body := servers[turn%len(servers)]+path, "GET", []byte(nil)
		switch what {
		case "get":
			address += "/" + *name
		case "patch":
			address, method = address+"/"+*name, "PATCH"
			body = fmt.Appendf(nil, `{"data":{"turn":"%d"}}`, turn)
		}
		request, _ := http.NewRequest(method, address, bytes.NewReader(body))
		request.Header.Set("Content-Type", "application/merge-patch+json")
		sent := time.Now()
		answer, err := client.Do(request)
		if err == nil {
			_, err = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			if err == nil && answer.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s", answer.Status)
			}
		}
		took := time.Since(sent)
		mutex.Lock()
		defer mutex.Unlock()
		if err != nil {
			failed++
			why = err.Error()
			return
		}
		samples[what] = append(samples[what], [2]float64{float64(sent.UnixMicro()) / 1e6, float64(took.Microseconds()) / 1000})
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	done := make(chan struct{})
	var clocks sync.WaitGroup
	for what, often := range map[string]float64{"get": *rate, "patch": *rate, "list": *lists} {
		clocks.Add(1)
		go func() {
			defer clocks.Done()
			// More than this at once would themselves be the load, as all PATCHes are to one object.
			free := make(chan struct{}, 8)
			for turn := 0; ; turn++ {
				// Evenly, but not in step with anything else.
				pause := time.Duration((0.5 + rand.Float64()) / often * float64(time.Second))
				select {
				case <-done:
					return
				case <-time.After(pause):
				}
				select {
				case free <- struct{}{}:
					under.Add(1)
					go func() { send(turn, what); <-free }()
				default:
					mutex.Lock()
					skipped++
					mutex.Unlock()
				}
			}
		}()
	}
	fmt.Fprintln(os.Stderr, "ready")
	<-ended
	close(done)
	clocks.Wait()
	under.Wait()
	return printJSON(map[string]any{"samples": samples, "failed": failed, "why": why, "skipped": skipped})
}
