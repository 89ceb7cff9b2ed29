package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// revokers is how many revocations may be under way at a time.
const revokers = 64

// revoke revokes tokens at a constant rate, one in each request, until the program is
// told to end. It prints a line when the first one is done.
func revoke(ctx context.Context, control, perSecond string) error {
	rate, err := strconv.Atoi(perSecond)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: revokers}}
	run := rand.Text()
	post := func(n int) error {
		body := fmt.Sprintf(`{"issuer":%q,"claims":{"jti":"%s-%d"}}`, issuerName, run, n)
		r, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, control+"/v1/revocations", strings.NewReader(body)) //nolint:gosec // the control endpoint of the benchmark
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+adminSecret)
		r.Header.Set("Content-Type", "application/json")
		answer, err := client.Do(r) //nolint:gosec // the control endpoint of the benchmark
		if err != nil {
			return err
		}
		defer func() { _ = answer.Body.Close() }()
		text, err := io.ReadAll(answer.Body)
		if err == nil && answer.StatusCode != http.StatusCreated {
			err = fmt.Errorf("a revocation was answered %s: %s", answer.Status, text)
		}
		return err
	}
	if err := post(0); err != nil {
		return err
	}
	fmt.Println("revoking")
	return repeat(ctx, rate, post)
}

// repeat calls do at a constant rate until the context ends. A call that has no place
// is made later, so the rate holds.
func repeat(ctx context.Context, rate int, do func(n int) error) error {
	all, failed := errgroup.WithContext(ctx)
	all.SetLimit(revokers)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for made := 0; failed.Err() == nil; {
		for due := int(time.Since(began).Seconds() * float64(rate)); made < due && failed.Err() == nil; made++ {
			n := made + 1
			all.Go(func() error { return do(n) })
		}
		select {
		case <-failed.Done():
		case <-tick.C:
		}
	}
	return all.Wait()
}
