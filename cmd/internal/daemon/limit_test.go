package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// The runtime's limit is that of the container, unless the operator sets one, and the
// log says which.
func TestMemoryLimit(t *testing.T) {
	const unlimited = math.MaxInt64
	fails := func(err error) memlimit.Provider { return func() (uint64, error) { return 0, err } }
	for name, c := range map[string]struct {
		container memlimit.Provider
		operator  string // GOMEMLIMIT
		want      int64
		line      string
	}{
		"a container":                   {memlimit.Limit(1000 << 20), "", 900 << 20, `"memory limited" bytes=943718400 origin="the container's limit"`},
		"a container and shared memory": {without(200<<20, memlimit.Limit(1000<<20)), "", 720 << 20, `"memory limited" bytes=754974720`},
		"much shared memory":            {without(900<<20, memlimit.Limit(1000<<20)), "", 450 << 20, `"memory limited" bytes=471859200`},
		"a container and GOMEMLIMIT":    {memlimit.Limit(1000 << 20), "700MiB", 700 << 20, `"memory limited" bytes=734003200 origin=GOMEMLIMIT`},
		"a container without limit":     {fails(memlimit.ErrNoLimit), "", unlimited, "memory not limited, the container has no limit"},
		"no container":                  {fails(memlimit.ErrNoCgroup), "", unlimited, "memory not limited, the container has no limit"},
		"another system":                {fails(memlimit.ErrCgroupsNotSupported), "", unlimited, "memory not limited, the container has no limit"},
		"a limit that is no number":     {fails(errors.New("memory.max is odd")), "", unlimited, `level=WARN msg="memory not limited, the container's limit cannot be read; GOMEMLIMIT sets one" error="failed to set GOMEMLIMIT: memory.max is odd"`},
	} {
		t.Run(name, func(t *testing.T) {
			before := int64(unlimited)
			if c.operator != "" {
				t.Setenv("GOMEMLIMIT", c.operator)
				before = c.want // as the runtime does at the start of a process
			}
			defer debug.SetMemoryLimit(debug.SetMemoryLimit(before))
			var log bytes.Buffer
			limitMemory(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), c.container)
			if got := debug.SetMemoryLimit(-1); got != c.want {
				t.Errorf("the limit is %d, want %d", got, c.want)
			}
			if !strings.Contains(log.String(), c.line) {
				t.Errorf("the log has %s, want %s", log.String(), c.line)
			}
		})
	}
}
