package envoytest

import "syscall"

// childAttr makes a child die with us, however we die, and keeps a terminal's
// interrupt from it: we stop it ourselves, in order.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
