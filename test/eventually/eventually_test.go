package eventually

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// recorder is a test that may fail without failing this one.
type recorder struct {
	testing.TB
	failure string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	if r.failure == "" {
		r.failure = format
	}
	for _, arg := range args {
		switch arg := arg.(type) {
		case string:
			r.failure += " " + arg
		case error:
			r.failure += " " + arg.Error()
		}
	}
}

func TestAWaitEndsWithItsCondition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := &recorder{TB: t}, time.Now()
		True(r, "three seconds have passed", func() bool { return time.Since(began) >= 3*time.Second })
		if took := time.Since(began); r.failure != "" || took > 3*time.Second+50*time.Millisecond {
			t.Errorf("wanted success within 50 ms of the condition, got %v after %q", took, r.failure)
		}
	})
}

func TestAConditionThatNeverHoldsFailsTheTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := &recorder{TB: t}, time.Now()
		Succeeds(r, "the replica answers", func() error { return errors.New("connection refused") })
		if took := time.Since(began); took < Limit || took > Limit+time.Second {
			t.Errorf("wanted a failure after %v, it came after %v", Limit, took)
		}
		for _, want := range []string{"the replica answers", "connection refused"} {
			if !strings.Contains(r.failure, want) {
				t.Errorf("wanted %q in the failure, got %q", want, r.failure)
			}
		}
	})
}
