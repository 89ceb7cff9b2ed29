package envoytest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// childAttr makes a child die with us, however we die, and keeps a terminal's
// interrupt from it: we stop it ourselves, in order.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// standsStill says whether every thread of a process is stopped.
func standsStill(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil { // gone
			continue
		}
		// pid (name) state …, and a name may have anything in it
		if _, state, _ := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte(" ")); !bytes.HasPrefix(state, []byte("T")) {
			return false
		}
	}
	return len(threads) > 0
}
