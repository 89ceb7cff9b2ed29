package daemon

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// limitShare is the share of the container's memory that the Go runtime may use. The
// rest is for memory that the runtime does not count, such as the pages of the program.
const limitShare = 0.9

// limitInterval is how often the limit of the container is read again, because some
// orchestrators change it while the process runs.
const limitInterval = time.Minute

// LimitMemory makes the Go runtime collect garbage before the process reaches the memory
// limit of its container: nine tenths of the limit of its cgroup, of version 1 or 2, less
// the shared bytes that the process has beside the runtime and that count towards the
// limit. It follows a change of the limit until ctx ends. GOMEMLIMIT, if it is set, wins, and so does
// AUTOMEMLIMIT=off. The log has one line about the limit. The Go runtime reads the
// processor limit of the container by itself.
func LimitMemory(ctx context.Context, log *slog.Logger, shared uint64) {
	limitMemory(ctx, log, without(shared, memlimit.FromCgroup))
}

// without returns a provider of the limit less the shared bytes, and of half the limit
// at least: a runtime with nearly no memory would do nothing but collect garbage.
func without(shared uint64, container memlimit.Provider) memlimit.Provider {
	return func() (uint64, error) {
		limit, err := container()
		return limit - min(shared, limit/2), err
	}
}

func limitMemory(ctx context.Context, log *slog.Logger, container memlimit.Provider) {
	limit, err := memlimit.Set(memlimit.WithProvider(container), memlimit.WithRatio(limitShare), memlimit.WithRefreshInterval(ctx, limitInterval))
	origin := "the container's limit"
	if os.Getenv("GOMEMLIMIT") != "" {
		origin = "GOMEMLIMIT"
	}
	switch {
	case errors.Is(err, memlimit.ErrNoCgroup), errors.Is(err, memlimit.ErrCgroupsNotSupported), err == nil && limit == math.MaxInt64:
		log.Info("memory not limited, the container has no limit; GOMEMLIMIT sets one")
	case err != nil:
		log.Warn("memory not limited, the container's limit cannot be read; GOMEMLIMIT sets one", slog.String("error", err.Error()))
	default:
		log.Info("memory limited", slog.Int64("bytes", limit), slog.String("origin", origin))
	}
}
