package watch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"rescind/revocation/insight"
)

// Answer answers a question as it comes over the feed: of kind "activity" with
// an [insight.ActivityQuery] and the answer an [insight.Activity], "impact"
// with an [insight.ImpactQuery] and an [insight.Impact], "advice" with nothing
// and an [insight.AdviceData]. Both are JSON. It does not wait for anything
// but memory.
func (w *Watcher) Answer(kind string, query []byte) ([]byte, error) {
	switch kind {
	case "activity":
		return answer(query, w.Activity)
	case "impact":
		return answer(query, w.Impact)
	case "advice":
		return answer([]byte("{}"), func(struct{}) (insight.AdviceData, error) { return w.Advice() })
	}
	return nil, fmt.Errorf("there is no question of kind %.40q", kind)
}

func answer[Q, A any](query []byte, by func(Q) (A, error)) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(query))
	d.UseNumber()
	d.DisallowUnknownFields()
	var q Q
	if err := d.Decode(&q); err != nil {
		return nil, fmt.Errorf("the question cannot be read: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("there is something after the question")
	}
	a, err := by(q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}
