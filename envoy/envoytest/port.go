package envoytest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// Ports for listeners lie below the ports that the kernel gives to clients. So a
// killed part finds its port free when it is started again, even if clients tried
// to reach it meanwhile. Ports are given out in order, so two parts that start at
// the same time have different ports before they bind them.
const firstPort, ports = 11_000, 20_000

var lastPort atomic.Int64

func init() { lastPort.Store(rand.Int64N(ports)) } //nolint:gosec // no secret

// FreeAddr returns a loopback address without a listener.
func FreeAddr() (string, error) {
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
