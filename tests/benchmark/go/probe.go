// Copyright (c) 2026, kube_storage.upgrade contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/json"
	"flag"
	"sync"
	"time"
)

// probe asks etcd at a steady rate, a put and a linearizable read alternately, as API servers do beside whatever
// else is going on, and reports how long the answers took.
func probe(arguments []string) error {
	flags := flag.NewFlagSet("probe", flag.ExitOnError)
	server := targetFlags(flags)
	seconds := flags.Float64("seconds", 10, "how long")
	rate := flags.Float64("rate", 50, "puts a second, and as many reads")
	flags.Parse(arguments)
	client, err := server.client(16)
	if err != nil {
		return err
	}
	key := []byte("/benchmark/probe")
	write, _ := json.Marshal(map[string]any{"key": key, "value": make([]byte, 500)})
	read, _ := json.Marshal(map[string]any{"key": key})
	var (
		mutex       sync.Mutex
		puts, reads []time.Duration
		failed      int
		under       sync.WaitGroup
	)
	ticker := time.NewTicker(time.Duration(float64(time.Second) / *rate / 2))
	end := time.After(time.Duration(*seconds * float64(time.Second)))
	for turn := 0; ; turn++ {
		select {
		case <-end:
			under.Wait()
			return printJSON(map[string]any{
				"put_p50_ms": percentile(puts, 0.5), "put_p99_ms": percentile(puts, 0.99),
				"read_p50_ms": percentile(reads, 0.5), "read_p99_ms": percentile(reads, 0.99),
				"failed": failed,
			})
		case <-ticker.C:
		}
		under.Add(1)
		go func(path string, body []byte, into *[]time.Duration) {
			defer under.Done()
			sent := time.Now()
			_, err := post(client, *server.server+path, body)
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				failed++
				return
			}
			*into = append(*into, time.Since(sent))
		}(pick(turn, "/v3/kv/put", "/v3/kv/range"), pick(turn, write, read), pick(turn, &puts, &reads))
	}
}

func pick[T any](turn int, even, odd T) T {
	if turn%2 == 0 {
		return even
	}
	return odd
}
