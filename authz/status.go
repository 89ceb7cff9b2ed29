package authz

import (
	"errors"
	"log/slog"
	"time"

	"rescind/jwks/statuslist"
)

// StatusLists are the status lists of one issuer: a [statuslist.Lists].
type StatusLists interface {
	// Status returns the status at a place. A denial names the causes
	// [statuslist.ErrUnavailable], [statuslist.ErrNotAllowed] and
	// [statuslist.ErrOutOfRange]. Every other error denies as internal.
	Status(ref statuslist.Reference, now time.Time) (statuslist.Status, error)
}

// ByStatusList is the detail of a denial as Revoked for which the issuer's own
// status list is the cause. No revocation of ours has revoked the token then.
const ByStatusList = "status_list"

// refusesStatus returns the reason for which the status of a token that has been
// accepted otherwise denies it, and the detail. It returns "" if nothing does.
//
// A list changes while a token lives, so a caller that keeps verified tokens asks
// again with each request. It costs two look-ups in memory.
func (a *Authorizer) refusesStatus(i *issuer, claims map[string]any) (Reason, string) {
	if i.StatusLists == nil {
		a.warnUnchecked(i, claims)
		return "", ""
	}
	ref, present, err := statuslist.ReferenceOf(claims)
	switch {
	case err != nil:
		return StatusRefused, err.Error()
	case !present:
		return "", ""
	}
	status, err := i.StatusLists.Status(ref, time.Now()) // the request may have waited for a key
	switch {
	case errors.Is(err, statuslist.ErrUnavailable) && i.AllowUnknownStatus:
		return "", ""
	case errors.Is(err, statuslist.ErrUnavailable):
		return StatusUnavailable, err.Error()
	case errors.Is(err, statuslist.ErrNotAllowed), errors.Is(err, statuslist.ErrOutOfRange):
		return StatusRefused, err.Error()
	case err != nil:
		return Internal, err.Error()
	case status != statuslist.Valid: // also one that only the issuer can explain
		return Revoked, ByStatusList
	}
	return "", ""
}

// warnUnchecked warns once if tokens of i name status lists and nobody reads them.
func (a *Authorizer) warnUnchecked(i *issuer, claims map[string]any) {
	if _, present := claims["status"]; !present || i.unchecked.Load() {
		return
	}
	if _, present, err := statuslist.ReferenceOf(claims); present && err == nil && i.unchecked.CompareAndSwap(false, true) {
		a.log.Warn("tokens of the issuer name status lists, which are not checked; configure status_lists of this issuer",
			slog.String("issuer", i.Name))
	}
}
