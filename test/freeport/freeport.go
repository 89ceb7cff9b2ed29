// Package freeport finds addresses on loopback, for listeners whose address must be
// in a configuration before they listen.
//
// # Ports
//
// The ports lie below the ports that the kernel gives to clients. So a killed part
// finds its port free when it is started again, even if clients tried to reach it
// meanwhile. Ports are given out in order, so two parts that start at the same time
// have different ports before they bind them.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

const firstPort, ports = 11_000, 20_000

var lastPort atomic.Int64

func init() { lastPort.Store(rand.Int64N(ports)) } //nolint:gosec // no secret

// Addr returns a loopback address without a listener.
func Addr() (string, error) {
	for tries := 0; ; tries++ {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+lastPort.Add(1)%ports)
		l, err := net.Listen("tcp", addr) //nolint:noctx // it returns at once
		if err == nil {
			return addr, l.Close()
		}
		if tries == 100 {
			return "", fmt.Errorf("no free port on loopback: %w", err)
		}
	}
}

// Test is the part of a testing.TB that Addrs needs. The demo links this package
// too, and so it does not import testing.
type Test interface {
	Helper()
	Fatal(...any)
}

// Addrs returns n different addresses, or ends the test.
func Addrs(t Test, n int) []string {
	t.Helper()
	addrs := make([]string, n)
	for i := range addrs {
		addr, err := Addr()
		if err != nil {
			t.Fatal(err)
		}
		addrs[i] = addr
	}
	return addrs
}
