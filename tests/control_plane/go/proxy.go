// Copyright (c) 2026, kube_storage.upgrade contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

// A load balancer as simple as those in front of many control planes: connections go to the backends in
// turn, past those that refuse. With --delay each direction is delayed by that much, for benchmarks.
func proxyMain() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	backends := flag.String("backends", "", "addresses to connect to, separated by commas")
	delay := flag.Duration("delay", 0, "added to each direction")
	flag.Parse()
	targets := strings.Split(*backends, ",")
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var turn atomic.Uint64
	for {
		client, err := listener.Accept()
		if err != nil {
			continue
		}
		go func() {
			first := turn.Add(1)
			for i := range targets {
				server, err := net.DialTimeout("tcp", targets[(first+uint64(i))%uint64(len(targets))], 2*time.Second)
				if err == nil {
					go carry(client, server, *delay)
					go carry(server, client, *delay)
					return
				}
			}
			client.Close()
		}()
	}
}

type chunk struct {
	data []byte
	due  time.Time
}

// carry copies one direction, each chunk no earlier than its time of arrival plus the delay.
func carry(from, to net.Conn, delay time.Duration) {
	defer to.Close()
	if delay == 0 {
		io.Copy(to, from)
		return
	}
	chunks := make(chan chunk, 4096)
	go func() {
		defer close(chunks)
		for {
			buffer := make([]byte, 32*1024)
			n, err := from.Read(buffer)
			if n > 0 {
				chunks <- chunk{buffer[:n], time.Now().Add(delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for one := range chunks {
		time.Sleep(time.Until(one.due))
		if _, err := to.Write(one.data); err != nil {
			from.Close()
			for range chunks {
			}
			return
		}
	}
}
