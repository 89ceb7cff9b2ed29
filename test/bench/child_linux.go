package main

import "syscall"

// childAttributes makes a child end with this program, even if this program is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
