package known

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sealsOfTable = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_FUTURE_WRITE | unix.F_SEAL_SEAL
	sealsOfRing  = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
)

// memory is shared memory of a fixed size.
type memory struct {
	fd    int
	bytes []byte
}

// newMemory returns memory of zeros that has these seals. All of its pages are there, so
// that nobody is killed later because the machine has none left.
func newMemory(name string, size, seals int) (m memory, err error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return memory{}, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if err := unix.Ftruncate(fd, int64(size)); err != nil {
		return memory{}, err
	}
	if err := unix.Fallocate(fd, 0, 0, int64(size)); err != nil {
		return memory{}, fmt.Errorf("there is no memory for %d bytes of known tokens: %w", size, err)
	}
	bytes, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return memory{}, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = unix.Munmap(bytes)
		return memory{}, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return memory{fd, bytes}, nil
}

// free gives the memory up. Processes that have mapped it keep it.
func (m memory) free() {
	_ = unix.Munmap(m.bytes)
	_ = unix.Close(m.fd)
}

// word returns the 8 bytes at an offset.
func (m memory) word(at int) *uint64 {
	return (*uint64)(unsafe.Pointer(unsafe.SliceData(m.bytes[at : at+8]))) //nolint:gosec // the slice is checked, and every offset a multiple of 8
}

func (m memory) load(at int) uint64       { return atomic.LoadUint64(m.word(at)) }
func (m memory) store(at int, v uint64)   { atomic.StoreUint64(m.word(at), v) }
func (m memory) text(at int, text string) { copy(m.bytes[at:], text) }
