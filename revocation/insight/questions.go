package insight

// Question names a question that the control endpoint puts to every replica.
// The control endpoint and the replica both use these names, and JSON for the
// query and the answer.
type Question string

const (
	AskActivity Question = "activity" // [ActivityQuery], answered by [Activity]
	AskAdvice   Question = "advice"   // no query, answered by [AdviceData]
	AskImpact   Question = "impact"   // [ImpactQuery], answered by [Impact]
	AskWeights  Question = "weights"  // a list of [ImpactQuery], answered by [Weights]
)
