package issuers

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// process is an issuer that runs. A shell holds its process group and kills the
// group when the pipe to this test closes, however this test ends.
type process struct {
	cmd  *exec.Cmd
	pipe io.Closer
	log  string
	done chan struct{} // closed when the shell has ended
}

const holdGroup = `"$@" </dev/null & read -r _; kill -KILL -$$`

// launch starts argv in a process group of its own. The group ends with the test.
func launch(t *testing.T, log string, env []string, argv ...string) *process {
	t.Helper()
	file, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := &process{cmd: exec.Command("sh", append([]string{"-c", holdGroup, "sh"}, argv...)...), log: log, done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, file, file
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.pipe, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("== %s\n%s", filepath.Base(log), p.said())
		}
	})
	return p
}

// kill ends the group and waits for it.
func (p *process) kill() {
	_ = p.pipe.Close()
	<-p.done
}

// said returns the end of the log.
func (p *process) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(text[max(0, len(text)-3000):])
}
