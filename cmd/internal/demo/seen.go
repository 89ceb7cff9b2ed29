package demo

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"rescind/envoy/envoytest"
)

// The steps about the use of tokens: alerts, activity and advice.

func (s *story) noticed(ctx context.Context) error {
	s.t.begin("A thief uses another token of hers: an alert comes")
	id, err := envoytest.Claim(s.stolen, "jti")
	if err != nil {
		return err
	}
	used := time.Now()
	if err := s.visit(ctx, "the stolen token", s.stolen, http.StatusUnauthorized); err != nil {
		return err
	}
	s.t.request(fmt.Sprintf("GET %s/v1/alerts until the alert is there", s.s.ControlURLs[s.at]))
	return s.until(ctx, "there was an alert for the revoked token", func() (bool, error) {
		var list struct {
			Items []struct {
				Detector, Summary string
				TokenID           string `json:"token_id"`
			}
		}
		if _, err := s.s.AdminAt(ctx, s.at, http.MethodGet, "/v1/alerts", nil, &list); err != nil {
			return false, err
		}
		for _, a := range list.Items {
			if a.TokenID == id {
				s.t.answer(a.Detector == "revoked_token_used", a.Detector+": "+a.Summary, time.Since(used))
				return true, nil
			}
		}
		return false, nil
	})
}

func (s *story) refreshed(ctx context.Context) error {
	s.t.begin("A session is blocked: a refreshed token of it is denied too")
	bob, err := s.s.LoginWithRefresh(ctx, "bob")
	if err != nil {
		return err
	}
	if err := s.visit(ctx, "bob's token", bob.Access, http.StatusOK); err != nil {
		return err
	}
	sid, err := envoytest.Claim(bob.Access, "sid")
	if err != nil {
		return err
	}
	if _, err := s.revoke(ctx, "sid", sid, true, "stolen phone"); err != nil {
		return err
	}
	again, err := s.s.Refresh(ctx, bob.Refresh)
	if err != nil {
		return err
	}
	s.t.say("his issuer does not know of the block, and issues a new token for the old refresh token")
	return s.visit(ctx, "the refreshed token", again.Access, http.StatusUnauthorized)
}

func (s *story) lookedBack(ctx context.Context) error {
	s.t.begin("Her activity, and the advice on lifetimes")
	s.t.request(fmt.Sprintf("GET %s/v1/activity?by=sub&value=alice, until every replica has answered", s.s.ControlURLs[s.at]))
	var seen struct {
		Count              uint64
		Networks, Outcomes map[string]uint64
		Replicas           struct{ Answered int }
	}
	var a envoytest.Answer
	err := s.until(ctx, "every replica had answered", func() (_ bool, err error) {
		a, err = s.s.AdminAt(ctx, s.at, http.MethodGet, "/v1/activity?by=sub&value=alice", nil, &seen)
		return seen.Replicas.Answered >= len(s.s.Replicas), err
	})
	if err != nil {
		return err
	}
	var outcomes []string
	for _, reason := range slices.Sorted(maps.Keys(seen.Outcomes)) {
		outcomes = append(outcomes, fmt.Sprintf("%s %d", reason, seen.Outcomes[reason]))
	}
	s.t.answer(seen.Outcomes["ok"] > 0 && seen.Outcomes["revoked"] > 0, fmt.Sprintf("%d requests from %s: %s",
		seen.Count, strings.Join(slices.Sorted(maps.Keys(seen.Networks)), ", "), strings.Join(outcomes, ", ")), a.Took)

	s.t.request(fmt.Sprintf("GET %s/v1/advice", s.s.ControlURLs[s.at]))
	var advice struct {
		Items []struct{ Client, Reason string }
	}
	if a, err = s.s.AdminAt(ctx, s.at, http.MethodGet, "/v1/advice", nil, &advice); err != nil {
		return err
	}
	text := "none"
	if len(advice.Items) > 0 {
		text = fmt.Sprintf("client %s: %s", advice.Items[0].Client, advice.Items[0].Reason)
	}
	s.t.answer(len(advice.Items) > 0, text, a.Took)
	return nil
}

// until repeats ask until it returns true or an error, for at most 30 s, and shows
// that it waits.
func (s *story) until(ctx context.Context, condition string, ask func() (bool, error)) error {
	return s.t.wait(func() error {
		for begun := time.Now(); ; {
			if is, err := ask(); is || err != nil {
				return err
			}
			if time.Since(begun) > 30*time.Second {
				return fmt.Errorf("30 s went by before %s", condition)
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}
