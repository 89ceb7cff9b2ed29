package demo

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// intakeName names the intake of every control node for the issuer.
const intakeName = "idp"

// intakes returns the entries in the configuration of each control node, for the
// logouts of the issuer.
func intakes(issuer string) string {
	return fmt.Sprintf("  - {name: %s, kind: logout, issuers: [%q], jwks_uri: %q, clients: [demo]}", intakeName, issuer, issuer+"/jwks")
}

// disabled disables a user at the issuer alone. The issuer posts a logout token
// to one control node.
func (s *story) disabled(ctx context.Context) error {
	s.t.begin("Carol is disabled at the issuer, which tells rescind by itself")
	carol, err := s.s.Login(ctx, "carol")
	if err != nil {
		return err
	}
	if err := s.visit(ctx, "carol's token", carol, http.StatusOK); err != nil {
		return err
	}
	to := s.s.IntakeURLs[s.at] + "/intake/" + intakeName + "/logout"
	s.s.Issuer.SendLogouts(to)
	s.t.request(fmt.Sprintf("POST %s/disable username=carol", s.s.Issuer.URL()))
	begun := time.Now()
	a, logout, err := s.s.Disable(ctx, "carol")
	if err != nil {
		return err
	}
	s.t.answer(logout == http.StatusOK, fmt.Sprintf("the issuer posted a logout token to %s, which answered %d %s", to, logout, http.StatusText(logout)), a.Took)
	s.t.request(fmt.Sprintf("GET %s/ with carol's token (%s) until it is denied", s.s.GatewayURL, abbreviated(carol)))
	return s.until(ctx, "carol's token was denied", func() (bool, error) {
		a, err := s.s.Get(ctx, "/", carol)
		if err != nil || a.Status != http.StatusUnauthorized {
			return false, err
		}
		s.t.answer(true, fmt.Sprintf("%d %s, from disabled at the issuer to denied by Envoy:", a.Status, http.StatusText(a.Status)), time.Since(begun))
		s.count(true)
		return true, nil
	})
}
