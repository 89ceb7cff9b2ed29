package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespaces reports whether the test runs in a network, a mount and a process
// namespace of its own. If it does not, inNamespaces runs the test there, as a
// child, and takes over the result. In the namespace the ports of the product are
// free, mounts vanish with the test, and no process outlives it.
func inNamespaces(t *testing.T, env ...string) bool {
	t.Helper()
	if os.Getenv("RELEASE_SCRATCH") != "" {
		raiseLoopback(t)
		return true
	}
	if os.Getuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("namespaces need root, and CI leaves no test out")
		}
		t.Skip("namespaces need root")
	}
	dist(t)                                                                                               // made outside, where the module proxy can be reached
	cmd := exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", //nolint:gosec // this test program
		os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), "RELEASE_SCRATCH="+scratch), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in namespaces of its own: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in namespaces of its own the test did not run:\n%s", out)
	}
	t.Logf("in namespaces of its own:\n%s", out)
	return false
}

// raiseLoopback raises the loopback interface of this network namespace.
func raiseLoopback(t *testing.T) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		t.Fatal(err)
	}
}

// unpack unpacks an archive into a folder, with owners and modes.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unpackFrom(t, f, dir)
}

func unpackFrom(t *testing.T, archive io.Reader, dir string) {
	t.Helper()
	cmd := exec.Command("tar", "--extract", "--numeric-owner", "--preserve-permissions", "--directory", dir)
	cmd.Stdin = archive
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tar into %s: %v: %s", filepath.Base(dir), err, out)
	}
}
