package intake

import (
	"context"
	"encoding/json"
	"errors"
)

// ErrChanged says that another node has saved the document since it was loaded.
var ErrChanged = errors.New("the document was changed by another node")

// Shelf keeps small documents of the intakes: positions of pollers, held events,
// leases. They are durable, and all control nodes share them.
type Shelf interface {
	// Load returns the document of the name and its version. The version is 0 if
	// there is no document.
	Load(ctx context.Context, name string) (document []byte, version uint64, err error)
	// Save replaces the document if it still has the version, and returns the new
	// version. It returns [ErrChanged] if the document has another version.
	Save(ctx context.Context, name string, document []byte, version uint64) (uint64, error)
}

// changes bounds how often a change begins anew because another node was first.
const changes = 20

// maxDocument bounds a document that change saves, in bytes.
const maxDocument = 512 << 10

var errTooLarge = errors.New("the document would be too large")

// change replaces the document of a name, which load reads, by the one that edit
// makes of it. It does nothing if edit reports that there is nothing to do. load
// and edit may run several times.
func change[T any](ctx context.Context, s Shelf, name string, load func(context.Context) (T, uint64, error), edit func(T) (_ T, changed bool, err error)) error {
	for range changes {
		v, version, err := load(ctx)
		if err != nil {
			return err
		}
		v, changed, err := edit(v)
		if err != nil || !changed {
			return err
		}
		document, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if len(document) > maxDocument {
			return errTooLarge
		}
		if _, err = s.Save(ctx, name, document, version); !errors.Is(err, ErrChanged) {
			return err
		}
	}
	return ErrChanged
}
