package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"rescind/test/eventually"
	"rescind/test/syncbuffer"
)

// machine is a copy of this machine's files that a test may change, with a systemd
// of its own as the first process once it is booted. It needs namespaces
// (inNamespaces), and shares the test's network.
type machine struct {
	t    *testing.T
	root string
	init string // the process ID of its systemd; empty: not booted
}

// newMachine lays a memory file system over the files of this machine. The mounts
// end with the test's namespace. Nothing is removed before, because a removal could
// follow a mount.
func newMachine(t *testing.T) *machine {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "machine-")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, root: filepath.Join(dir, "root")}
	m.host("mount", "-t", "tmpfs", "tmpfs", dir)
	for _, name := range []string{"up", "work", "root"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.host("mount", "-t", "overlay", "overlay", "-o", "lowerdir=/,upperdir="+dir+"/up,workdir="+dir+"/work", m.root)
	for _, name := range []string{"run", "tmp", "dev"} {
		m.host("mount", "-t", "tmpfs", "tmpfs", filepath.Join(m.root, name))
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		m.write("dev/"+name, "")
		m.host("mount", "--bind", "/dev/"+name, filepath.Join(m.root, "dev", name))
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "ptmx": "pts/ptmx"} {
		if err := os.Symlink(to, filepath.Join(m.root, "dev", name)); err != nil {
			t.Fatal(err)
		}
	}
	m.write("etc/fstab", "")
	return m
}

// boot starts systemd. It starts no service of this machine beside those that
// basic.target needs.
func (m *machine) boot() {
	m.t.Helper()
	const script = `cd "$0"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir old
pivot_root . old
umount --lazy /old
mount --make-rshared /
exec env -i container=test PATH=/usr/bin:/usr/sbin /usr/lib/systemd/systemd --unit=basic.target --log-target=journal --show-status=no`
	var log syncbuffer.Buffer
	cmd := exec.Command("unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child", "sh", "-euc", script, m.root)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		if m.t.Failed() {
			out, _ := m.command("journalctl", "--no-pager", "--lines=60", "--unit=rescind-*", "--output=cat").CombinedOutput()
			m.t.Logf("systemd said %s\nthe journal has\n%s", log.String(), out)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	pid := strconv.Itoa(cmd.Process.Pid)
	eventually.True(m.t, "systemd has booted", func() bool {
		children, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
		m.init = strings.TrimSpace(string(children))
		if err != nil || m.init == "" {
			return false
		}
		out, _ := m.command("systemctl", "is-active", "basic.target").Output()
		return strings.TrimSpace(string(out)) == "active"
	})
}

// command returns a command inside the machine.
func (m *machine) command(args ...string) *exec.Cmd {
	if m.init == "" {
		return exec.Command("chroot", append([]string{m.root}, args...)...)
	}
	return exec.Command("nsenter", append([]string{"--target=" + m.init, "--mount", "--pid", "--uts", "--ipc", "--cgroup"}, args...)...)
}

// run runs a command inside the machine, and returns its output. The test fails if
// the exit status is not 0.
func (m *machine) run(args ...string) string {
	m.t.Helper()
	out, err := m.command(args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimRight(string(out), "\n")
}

// fails runs a command inside the machine that must not succeed.
func (m *machine) fails(args ...string) string {
	m.t.Helper()
	out, err := m.command(args...).CombinedOutput()
	if err == nil {
		m.t.Fatalf("%s: got exit status 0, want a failure\n%s", strings.Join(args, " "), out)
	}
	return string(out)
}

// host runs a command outside.
func (m *machine) host(args ...string) {
	m.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// copy copies a file of the release into the machine, and returns its path there.
func (m *machine) copy(from string) string {
	m.t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write("root/"+filepath.Base(from), string(text))
	return "/root/" + filepath.Base(from)
}

func (m *machine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.root, name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// edit replaces texts in a file of the machine. Each must be there.
func (m *machine) edit(name string, replace map[string]string) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	text, err := os.ReadFile(path)
	if err != nil {
		m.t.Fatal(err)
	}
	for old, text2 := range replace {
		if !strings.Contains(string(text), old) {
			m.t.Fatalf("%s has no %q to replace", name, old)
		}
		text = []byte(strings.ReplaceAll(string(text), old, text2))
	}
	if err := os.WriteFile(path, text, 0o600); err != nil { // the mode of a file that exists stays
		m.t.Fatal(err)
	}
}
