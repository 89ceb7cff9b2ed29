package node

import (
	"rescind/cmd/internal/config"
	"rescind/revocation/intake"
	"rescind/revocation/intake/webhook"
)

func webhookPart(_ *node, c *config.Intake, door *intake.Door) (intakePart, error) {
	return intakePart{push: webhook.New(c.Settings.(*config.WebhookIntake).Options, door)}, nil
}
