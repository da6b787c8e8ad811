// Copyright (c) 2026, kube_storage.upgrade contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// What the benchmarks need besides the servers: a flood to compare with, a stub to answer at once, a filler
// of etcd, a probe of its latency, and another client of the API servers. Nothing but the standard library, so that it builds in seconds.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"sort"
	"time"
)

func main() {
	programs := map[string]func([]string) error{"flood": flood, "stub": stub, "fill": fill, "probe": probe, "neighbour": neighbour}
	if len(os.Args) < 2 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: benchmark flood|stub|fill|probe|neighbour OPTIONS")
		os.Exit(2)
	}
	if err := programs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// target is a server and the certificates to talk to it.
type target struct {
	server, ca, cert, key *string
	http2                 *bool
}

func targetFlags(flags *flag.FlagSet) target {
	return target{
		server: flags.String("server", "", "https://host:port; flood and neighbour take several, with commas"),
		ca:     flags.String("ca", "", "CA certificate"),
		cert:   flags.String("cert", "", "client certificate"),
		key:    flags.String("key", "", "its key"),
		http2:  flags.Bool("http2", false, "one HTTP/2 connection instead of HTTP/1.1 connections"),
	}
}

func (t target) client(connections int) (*http.Client, error) {
	pem, err := os.ReadFile(*t.ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(*t.cert, *t.key)
	if err != nil {
		return nil, err
	}
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}},
		MaxIdleConnsPerHost: connections,
		DisableCompression:  true,
		ForceAttemptHTTP2:   *t.http2,
	}}, nil
}

func printJSON(value any) error { return json.NewEncoder(os.Stdout).Encode(value) }

// percentile of durations in milliseconds; sorts them.
func percentile(all []time.Duration, share float64) float64 {
	if len(all) == 0 {
		return 0
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	at := min(len(all)-1, int(share*float64(len(all))))
	return float64(all[at].Microseconds()) / 1000
}
