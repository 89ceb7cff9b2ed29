package envoytest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Process is a child process. Its standard error goes to a log file. The addresses
// in its "listening" lines are remembered.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{} // closed when the process has ended and err is set
	err  error

	paused atomic.Bool

	mu    sync.Mutex
	addrs map[string]string // the fields name → addr of its "listening" lines
	heard chan struct{}     // closed and replaced with each such line
}

// start starts argv and returns at once.
func start(name, logPath string, argv ...string) (*Process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &Process{Name: name, log: log, done: make(chan struct{}), addrs: map[string]string{}, heard: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)                        //nolint:gosec,noctx // stopped by Stop, not by a context
	p.cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Dir(logPath)) // a killed process leaves its temporary files there
	p.cmd.Stdout = log
	p.cmd.SysProcAttr = childAttr()
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	go p.watch(stderr)
	return p, nil
}

// watch reads stderr to its end, then waits for the process.
func (p *Process) watch(stderr io.Reader) {
	lines := bufio.NewReader(io.TeeReader(stderr, p.log))
	for {
		line, err := lines.ReadBytes('\n')
		var said struct{ Msg, Name, Addr string }
		if json.Unmarshal(line, &said) == nil && said.Msg == "listening" {
			p.mu.Lock()
			p.addrs[said.Name] = said.Addr
			close(p.heard)
			p.heard = make(chan struct{})
			p.mu.Unlock()
		}
		if err != nil {
			break
		}
	}
	p.err = p.cmd.Wait()
	p.log.Close()
	close(p.done)
}

// Addr waits until the process has bound the named listener (grpc, http, admin,
// feed), and returns its address.
func (p *Process) Addr(ctx context.Context, name string) (string, error) {
	for {
		p.mu.Lock()
		addr, heard := p.addrs[name], p.heard
		p.mu.Unlock()
		if addr != "" {
			return addr, nil
		}
		select {
		case <-heard:
		case <-p.done:
			return "", p.ended()
		case <-ctx.Done():
			return "", fmt.Errorf("%s did not listen on %s: %w; see %s", p.Name, name, ctx.Err(), p.log.Name())
		}
	}
}

func (p *Process) ended() error {
	return fmt.Errorf("%s ended (%v); see its log, %s", p.Name, p.cmd.ProcessState, p.log.Name())
}

// Pause stops the process, with its connections open, until Resume. It returns
// once every thread stands still.
func (p *Process) Pause() error {
	p.paused.Store(true)
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for begun := time.Now(); !standsStill(p.PID()); time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			return fmt.Errorf("%s does not stop within 10s of SIGSTOP", p.Name)
		}
	}
	return nil
}

// Resume undoes Pause.
func (p *Process) Resume() error {
	p.paused.Store(false)
	return p.cmd.Process.Signal(syscall.SIGCONT)
}

// Running reports whether the process runs: it has not ended and is not paused.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return !p.paused.Load()
	}
}

// Kill sends SIGKILL and waits until the process has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop sends SIGTERM, and SIGKILL after ten seconds. It returns the exit status, 0
// for a process that drained.
func (p *Process) Stop() int {
	if p.paused.Load() {
		_ = p.Resume()
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		p.Kill()
	}
	return p.cmd.ProcessState.ExitCode()
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }
