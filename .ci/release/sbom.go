package main

import (
	"context"
	"fmt"
	"os"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/CycloneDX/cyclonedx-gomod/pkg/generate/bin"
	"github.com/rs/zerolog"
)

// boms writes the list of parts (SBOM, in the form of CycloneDX) of each architecture:
// those of the binary, read from the binary itself, and the module for Envoy.
func (r *release) boms(context.Context) error {
	for _, arch := range architectures {
		generator, err := bin.NewGenerator(r.binaries[arch], bin.WithIncludeStdlib(true), bin.WithLogger(zerolog.Nop()))
		if err != nil {
			return err
		}
		bom, err := generator.Generate()
		if err != nil {
			return fmt.Errorf("the list of parts of linux/%s: %w", arch, err)
		}
		module, err := r.modulePart(arch)
		if err != nil {
			return err
		}
		*bom.Components = append(*bom.Components, module)
		bom.Metadata.Timestamp = r.time.Format(time.RFC3339)
		f, err := os.Create(r.path("linux_" + arch + ".cdx.json"))
		if err != nil {
			return err
		}
		if err := cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}
