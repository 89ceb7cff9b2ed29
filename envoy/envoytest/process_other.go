//go:build unix && !linux

package envoytest

import (
	"syscall"
	"time"
)

func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// standsStill gives a process that was told to the time to do so.
func standsStill(int) bool {
	time.Sleep(50 * time.Millisecond)
	return true
}
