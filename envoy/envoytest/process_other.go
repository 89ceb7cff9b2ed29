//go:build unix && !linux

package envoytest

import (
	"syscall"
	"time"
)

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// standsStill waits for a moment, because this system does not tell whether a
// process has stopped.
func standsStill(int) bool {
	time.Sleep(50 * time.Millisecond)
	return true
}
