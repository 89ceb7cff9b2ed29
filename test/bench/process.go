package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a started program. Its output goes to a log file.
type process struct {
	*exec.Cmd
	log string
}

// processes are the started programs. They end with the benchmark.
type processes struct{ all []*process }

func (p *processes) stop() {
	for _, c := range slices.Backward(p.all) {
		_ = c.Process.Kill()
		_ = c.Wait()
	}
}

// start starts a program that writes its output to a log.
func (p *processes) start(ctx context.Context, log string, environment []string, argv ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	c := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // programs of the benchmark
	c.Stdout, c.Stderr, c.Env = out, out, append(os.Environ(), environment...)
	c.SysProcAttr = childAttributes()
	if err := c.Start(); err != nil {
		return nil, err
	}
	started := &process{c, log}
	p.all = append(p.all, started)
	return started, nil
}

// end stops a program in order, and waits for its end. It fails if the program failed.
func (p *processes) end(ended *process) error {
	p.all = slices.DeleteFunc(p.all, func(c *process) bool { return c == ended })
	if err := ended.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := ended.Wait()
	if status, ok := ended.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGTERM {
		return nil // a program without a handler
	}
	if err != nil {
		text, _ := os.ReadFile(ended.log)
		return fmt.Errorf("%s: %w; it wrote:\n%s", filepath.Base(ended.Path), err, last(string(text), 2000))
	}
	return nil
}

// patience is how long a program may take to listen or to load.
const patience = 5 * time.Minute

// until calls done until it returns true or the patience is at its end.
func (c *process) until(state string, done func() bool) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if done() {
			return nil
		}
		if c.Process.Signal(syscall.Signal(0)) != nil {
			break
		}
	}
	text, _ := os.ReadFile(c.log)
	return fmt.Errorf("%s is not %s; it wrote:\n%s", filepath.Base(c.Path), state, last(string(text), 4000))
}

// line waits for a line of the log of which find returns a part, and returns the part.
func (c *process) line(state string, find func(line string) string) (found string, err error) {
	err = c.until(state, func() bool {
		text, _ := os.ReadFile(c.log)
		for line := range strings.Lines(string(text)) {
			if found = find(line); found != "" {
				return true
			}
		}
		return false
	})
	return found, err
}

// count returns how many lines of the log have this text.
func (c *process) count(text string) int {
	all, _ := os.ReadFile(c.log)
	return strings.Count(string(all), text)
}

// listening waits until rescind has written the address of this listener.
func (c *process) listening(name string) (string, error) {
	return c.line("listening", func(line string) string {
		if !strings.Contains(line, `"msg":"listening"`) || !strings.Contains(line, `"name":"`+name+`"`) {
			return ""
		}
		_, addr, _ := strings.Cut(line, `"addr":"`)
		addr, _, _ = strings.Cut(addr, `"`)
		return addr
	})
}

// processorTime returns the processor time that the program has used. It needs Linux.
func (c *process) processorTime() (ran time.Duration, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c.Process.Pid))
	if err != nil || len(threads) == 0 {
		return 0, fmt.Errorf("the threads of %s are not known; this needs Linux, and the process to live", c.Path)
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread is gone
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		ran += time.Duration(ns)
	}
	return ran, nil
}

// resident returns the resident memory of the program in MiB.
func (c *process) resident() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kib) / 1024
		}
	}
	return 0
}

// last returns the last n bytes of a text.
func last(text string, n int) string { return text[max(0, len(text)-n):] }
