package envoytest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// Ports for listeners lie below those that the kernel gives to clients: a part
// that was killed finds its own free when it comes back, however often others
// tried to reach it meanwhile. They are given out in their order, so that what
// is started at the same time gets different ones though it binds them later.
const firstPort, ports = 11_000, 20_000

var lastPort atomic.Int64

func init() { lastPort.Store(rand.Int64N(ports)) } //nolint:gosec // no secret

// freeAddr is a loopback address on which nobody listens.
func freeAddr() (string, error) {
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
