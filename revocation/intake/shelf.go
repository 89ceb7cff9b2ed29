package intake

import (
	"context"
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
