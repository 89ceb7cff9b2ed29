package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"rescind/envoy/envoytest"
)

// What is seen of tokens, and told.

func (s *story) noticed(ctx context.Context) error {
	s.t.begin("Somebody has stolen another token of hers, and uses it: you are told")
	id, err := envoytest.Claim(s.stolen, "jti")
	if err != nil {
		return err
	}
	used := time.Now()
	if err := s.visit(ctx, "the stolen token", s.stolen, http.StatusUnauthorized); err != nil {
		return err
	}
	s.t.request(fmt.Sprintf("GET %s/v1/alerts until it is there", s.s.ControlURLs[s.at]))
	for {
		var list struct {
			Items []struct {
				Detector, Summary string
				TokenID           string `json:"token_id"`
			}
		}
		if _, err := s.s.AdminAt(ctx, s.at, http.MethodGet, "/v1/alerts", nil, &list); err != nil {
			return err
		}
		for _, a := range list.Items {
			if a.TokenID == id {
				s.t.answer(a.Detector == "revoked_token_used", a.Detector+": "+a.Summary, time.Since(used))
				return nil
			}
		}
		if time.Since(used) > 30*time.Second {
			return errors.New("the use of a revoked token was not told within 30 s")
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

func (s *story) refreshed(ctx context.Context) error {
	s.t.begin("A session is blocked: what is refreshed into it is denied too")
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
	if _, err := s.post(ctx, map[string]any{"claims": map[string]any{"sid": sid}, "block": true}, "stolen phone"); err != nil {
		return err
	}
	again, err := s.s.Refresh(ctx, bob.Refresh)
	if err != nil {
		return err
	}
	s.t.say("his issuer knows nothing of it, and hands out a fresh token for the old refresh token")
	return s.visit(ctx, "the refreshed token", again.Access, http.StatusUnauthorized)
}

func (s *story) lookedBack(ctx context.Context) error {
	s.t.begin("What was seen of her, and what it says about lifetimes")
	s.t.request(fmt.Sprintf("GET %s/v1/activity?by=sub&value=alice, until every replica has answered", s.s.ControlURLs[s.at]))
	var seen struct {
		Count              uint64
		Networks, Outcomes map[string]uint64
		Replicas           struct{ Answered int }
	}
	var a envoytest.Answer
	for begun := time.Now(); seen.Replicas.Answered < len(s.s.Replicas); {
		var err error
		if a, err = s.s.AdminAt(ctx, s.at, http.MethodGet, "/v1/activity?by=sub&value=alice", nil, &seen); err != nil {
			return err
		}
		if time.Since(begun) > 30*time.Second {
			return errors.New("the replicas could not be asked within 30 s")
		}
		if err := pause(ctx); err != nil {
			return err
		}
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
	a, err := s.s.AdminAt(ctx, s.at, http.MethodGet, "/v1/advice", nil, &advice)
	if err != nil {
		return err
	}
	text := "none"
	if len(advice.Items) > 0 {
		text = fmt.Sprintf("client %s: %s", advice.Items[0].Client, advice.Items[0].Reason)
	}
	s.t.answer(len(advice.Items) > 0, text, a.Took)
	return nil
}

// pause is between two questions.
func pause(ctx context.Context) error {
	select {
	case <-time.After(10 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
