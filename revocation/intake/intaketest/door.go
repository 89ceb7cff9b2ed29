package intaketest

import (
	"context"

	"rescind/revocation/intake"
)

// Door keeps the event that it took last, and the fault that it was told of last.
type Door struct {
	Out  intake.Outcome // of Take
	Err  error          // of Take
	Wait func()         // called by Take; nil: Take does not wait

	Took   *intake.Event
	Turned error
}

// Take returns Out and Err.
func (d *Door) Take(_ context.Context, e *intake.Event) (intake.Outcome, error) {
	if d.Wait != nil {
		d.Wait()
	}
	d.Took = e
	return d.Out, d.Err
}

// Turn keeps the fault.
func (d *Door) Turn(_ context.Context, _ string, err error) { d.Turned = err }
