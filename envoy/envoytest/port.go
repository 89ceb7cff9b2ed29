package envoytest

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// freeAddr is a loopback address on which nobody listens. Its port lies below
// those that the kernel gives to clients: a part that was killed finds it free
// when it comes back, however often others tried to reach it meanwhile.
func freeAddr() (string, error) {
	for tries := 0; ; tries++ {
		addr := fmt.Sprintf("127.0.0.1:%d", 11_000+rand.N(20_000)) //nolint:gosec // no secret
		l, err := net.Listen("tcp", addr)                          //nolint:noctx // it returns at once
		if err == nil {
			return addr, l.Close()
		}
		if tries == 100 {
			return "", fmt.Errorf("no free port on loopback: %w", err)
		}
	}
}
