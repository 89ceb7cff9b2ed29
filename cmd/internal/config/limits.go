package config

// Limits bound the harm that one accepted request of the admin API can do.
type Limits struct {
	// ShareOfTraffic is the share of the requests seen lately that a
	// revocation may deny without a confirmation. 0 is no limit.
	ShareOfTraffic float64
	// MinRequests is how many requests must have been seen lately for a share
	// of them to mean anything.
	MinRequests int
	// ShapesPerIssuer is how many distinct sets of claim names the revocations
	// in force for one issuer may have. Each set costs every look-up.
	ShapesPerIssuer int
}

func readLimits(v value, l *Limits) {
	v.object(keys{
		"share_of_traffic":  into(&l.ShareOfTraffic, ratio),
		"min_requests":      into(&l.MinRequests, count(0, 1_000_000_000)),
		"shapes_per_issuer": into(&l.ShapesPerIssuer, count(1, 100_000)),
	})
}
