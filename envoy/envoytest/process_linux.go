package envoytest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// childAttr makes a child end with this process, even if this process is
// killed. A terminal's interrupt does not reach the child: the stack stops its
// parts in order.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// standsStill reports whether every thread of a process is stopped.
func standsStill(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil { // the thread has ended
			continue
		}
		// The line is: pid (name) state …. The name may contain any character.
		if _, state, _ := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte(" ")); !bytes.HasPrefix(state, []byte("T")) {
			return false
		}
	}
	return len(threads) > 0
}
