package test

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
)

// halfSentPosts keeps 512 requests of a viewer open whose bodies never end, and
// two imports of a revoker that send one byte a second. A request that is answered
// comes again after a second.
func halfSentPosts(ctx context.Context, at *place, said *tally) {
	addr := strings.TrimPrefix(at.Control, "http://")
	var callers sync.WaitGroup
	defer callers.Wait()
	for n := range 514 {
		token, contentType := viewerToken, "application/json"
		if n >= 512 {
			token, contentType = revokerToken, "application/x-ndjson"
		}
		callers.Go(func() {
			for ctx.Err() == nil {
				if answer := halfSend(ctx, addr, token, contentType, n >= 512); ctx.Err() == nil {
					said.add(answer)
				}
				pause(ctx, aboutASecond())
			}
		})
	}
}

// halfSend returns the status line of the answer to a request whose body does not
// end.
func halfSend(ctx context.Context, addr, token, contentType string, drip bool) string {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return "not connected"
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := fmt.Fprintf(conn, "POST /v1/revocations HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: 5000\r\n\r\n{", addr, token, contentType); err != nil {
		return "closed"
	}
	if drip {
		go func() {
			for pause(ctx, time.Second) {
				if _, err := io.WriteString(conn, " "); err != nil {
					return
				}
			}
		}()
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "closed without an answer"
	}
	return strings.TrimSpace(line)
}

// manyShapes imports, as a revoker, 100,000 revocations whose claim names all
// differ, a thousand at a time, again and again.
func manyShapes(ctx context.Context, at *place, said *tally) {
	for n := 0; ctx.Err() == nil; n = (n + linesOfAnImport) % 100_000 {
		importLines(ctx, at, said, func(i int) string {
			return fmt.Sprintf(`{"issuer":%q,"claims":{"shape-%d":"x"}}`, at.Issuer, n+i)
		})
	}
}

// oneDigest imports, as a revoker, 70,000 revocations of one subject, each of which
// reaches further than those before. Then it goes on with another subject.
func oneDigest(ctx context.Context, at *place, said *tally) {
	began := time.Now().Add(-24 * time.Hour)
	for n := 0; ctx.Err() == nil; n += linesOfAnImport {
		importLines(ctx, at, said, func(i int) string {
			entry := (n + i) % 70_000
			cutOff, end := began.Add(time.Duration(entry)*time.Millisecond), time.Now().Add(time.Hour+time.Duration(entry)*time.Second)
			return fmt.Sprintf(`{"issuer":%q,"claims":{"sub":"digest-%d"},"issued_before":%q,"expires_at":%q}`, at.Issuer, (n+i)/70_000, cutOff.Format(time.RFC3339Nano), end.Format(time.RFC3339Nano))
		})
	}
}

const linesOfAnImport = 1000

func importLines(ctx context.Context, at *place, said *tally, line func(i int) string) {
	var lines strings.Builder
	for i := range linesOfAnImport {
		lines.WriteString(line(i) + "\n")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.Control+"/v1/revocations?confirm=true", strings.NewReader(lines.String()))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+revokerToken)
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		said.add("not answered")
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	said.add(res.Status)
	if res.StatusCode == http.StatusTooManyRequests {
		pause(ctx, 100*time.Millisecond)
	}
}

// madeUpReplicas follows the feed under 4,200 names with a feed credential of its
// own, 16 on each connection: the control endpoint takes no more. Each made-up
// replica acknowledges, because the operator's revocation waits for all that are
// connected. A stream that is refused or ends comes again after a second.
func madeUpReplicas(ctx context.Context, at *place, said *tally) {
	var conns []*grpc.ClientConn
	const each = 16
	for range (4200 + each - 1) / each {
		conn, err := grpc.NewClient("passthrough:///"+at.Feed, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	var followers sync.WaitGroup
	defer followers.Wait() // before the connections close
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+strangerToken)
	for n := range 4200 {
		followers.Go(func() {
			for ctx.Err() == nil {
				err := madeUp(ctx, conns[n/each], fmt.Sprintf("made-up-%d", n))
				if ctx.Err() == nil {
					said.add(status.Convert(err).Message())
				}
				pause(ctx, aboutASecond())
			}
		})
		pause(ctx, 2*time.Millisecond)
	}
}

// madeUp follows until the stream ends, and acknowledges each revision.
func madeUp(ctx context.Context, conn *grpc.ClientConn, name string) error {
	stream, err := feedpb.NewFeedClient(conn).Follow(ctx)
	if err != nil {
		return err
	}
	hello := &feedpb.Hello{Name: name, Instance: make([]byte, 16), Rules: revocation.Rules}
	_, _ = rand.Read(hello.Instance)
	if err := stream.Send(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Hello{Hello: hello}}); err != nil {
		return err
	}
	ack := &feedpb.Ack{}
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		switch m := m.Kind.(type) {
		case *feedpb.ServerMessage_SnapshotEnd:
			ack.Revision, ack.Entries = m.SnapshotEnd.Revision, m.SnapshotEnd.Count
		case *feedpb.ServerMessage_Changes:
			for _, c := range m.Changes.Changes {
				added, _ := revocation.ReadEntries(c.Added)
				removed, _ := revocation.ReadEntries(c.Removed)
				ack.Entries += uint64(len(added)) - uint64(len(removed))
				ack.Revision = c.Revision
			}
		case *feedpb.ServerMessage_Heartbeat:
		default:
			continue
		}
		if err := stream.Send(&feedpb.ClientMessage{Kind: &feedpb.ClientMessage_Ack{Ack: ack}}); err != nil {
			return err
		}
	}
}

// aboutASecond spreads the callers of an overload, so that they do not come at the
// same instant.
func aboutASecond() time.Duration { return 500*time.Millisecond + mathrand.N(time.Second) }

// pause waits, and reports whether the overload goes on.
func pause(ctx context.Context, length time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(length):
		return true
	}
}
