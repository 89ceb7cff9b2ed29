package daemon

import (
	"io/fs"
	"syscall"
)

// restrict sets the mode that a socket is made with, so that at no moment it
// is open to more than it should be.
func restrict(fd int, mode fs.FileMode) { _ = syscall.Fchmod(fd, uint32(mode.Perm())) }
