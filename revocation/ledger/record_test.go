package ledger

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger/ledgertest"
)

// testdata/first-edition.batch is a batch that the first edition wrote, with
// each form of a target and a restoration of its third revocation.
func TestFirstEditionLogMeansTheSame(t *testing.T) {
	body, err := os.ReadFile("testdata/first-edition.batch")
	if err != nil {
		t.Fatal(err)
	}
	log := ledgertest.New()
	log.Add(body)
	at := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	l, stop := run(t, log, func() time.Time { return at.Add(-30 * time.Minute) })
	defer stop()
	items, next := l.List(Query{Limit: 100})
	if next != (revocation.ID{}) {
		t.Errorf("a page of 100: got %d items and the next page at %v, want the whole batch", len(items), next)
	}
	var got []string
	for _, it := range slices.Backward(items) {
		d := TargetOf(&it.Target)
		got = append(got, fmt.Sprintf("%s %s %v kid=%s token=%.6s all=%v block=%v before=%d by=%s restored=%v",
			it.ID, it.Issuer, d.Claims, d.KeyID, d.TokenSHA256, d.All, it.Block, it.Before, it.CreatedBy, it.Restored != nil))
	}
	second := "1795503601000000" // the second after the acceptance
	want := []string{
		"r2.0 https://a.example/ map[sub:alice] kid= token= all=false block=false before=" + second + " by=alice restored=false",
		"r2.1 https://a.example/ map[sid:s1] kid= token= all=false block=false before=" + second + " by=alice restored=false",
		"r2.2 https://a.example/ map[jti:t1] kid= token= all=false block=false before=0 by=alice restored=true",
		"r2.3 https://a.example/ map[iss:https://a.example/] kid= token= all=false block=false before=" + second + " by=alice restored=false",
		"r2.4 https://a.example/ map[admin:true n:1.5 sub:bob] kid= token= all=false block=true before=0 by=alice restored=false",
		"r2.5 https://a.example/ map[] kid=k1 token= all=false block=false before=0 by=alice restored=false",
		"r2.6 https://a.example/ map[] kid= token= all=true block=false before=1793491200000000 by=alice restored=false",
		"r2.7 https://b.example/ map[/~1odd:x] kid= token= all=false block=false before=" + second + " by=alice restored=false",
		"r2.8 https://a.example/ map[] kid= token=010203 all=false block=false before=0 by=bob restored=false",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the batch of the first edition reads as\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if l.Len() != 8 {
		t.Errorf("replicas hold %d revocations, want 8", l.Len())
	}
}

// A batch of a later version of batches or rules is refused by name.
func TestNewerLogIsRefused(t *testing.T) {
	rules := binary.AppendUvarint([]byte{batchVersion}, revocation.Rules+1)
	for name, body := range map[string][]byte{
		"batches": {batchVersion + 1, 1, 'w', 0},
		"rules":   append(rules, 1, 'w', 0),
	} {
		_, _, err := readBatch(body, 7, newInterner())
		if err == nil || !strings.Contains(err.Error(), "revision 7 of the log is from a newer rescind") || !strings.Contains(err.Error(), name) {
			t.Errorf("a batch with later %s: %v, want a refusal that names revision, newer rescind and %s", name, err, name)
		}
	}
	if _, _, err := readBatch(packBatch("w", nil), 7, newInterner()); err != nil {
		t.Errorf("a batch of this version: %v, want it read", err)
	}
}
