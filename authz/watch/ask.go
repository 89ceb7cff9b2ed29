package watch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"rescind/revocation/insight"
)

// Answer answers a question that came over the feed. Query and answer are JSON,
// as [insight.Question] names their types. Answer waits for nothing but the
// memory.
func (w *Watcher) Answer(kind string, query []byte) ([]byte, error) {
	switch insight.Question(kind) {
	case insight.AskActivity:
		return answer(query, w.Activity)
	case insight.AskImpact:
		return answer(query, w.Impact)
	case insight.AskWeights:
		return answer(query, w.Weights)
	case insight.AskAdvice:
		return answer([]byte("{}"), func(struct{}) (insight.AdviceData, error) { return w.Advice() })
	}
	return nil, fmt.Errorf("this replica knows no question %.40q", kind)
}

// answer reads a query, which must be one JSON value without unknown members,
// and writes the answer as JSON.
func answer[Q, A any](query []byte, by func(Q) (A, error)) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(query))
	d.UseNumber()
	d.DisallowUnknownFields()
	var q Q
	if err := d.Decode(&q); err != nil {
		return nil, fmt.Errorf("the query cannot be read: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("there is text after the query")
	}
	a, err := by(q)
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}
