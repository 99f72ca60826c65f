package hub

import (
	"google.golang.org/grpc/codes"

	"minato.example/internal/check"
	"minato.example/internal/rpc"
)

// violation is one thing that is wrong, with its remedy in both languages.
func violation(field, reason, ja, en string) rpc.Violation {
	return check.Violation(field, reason, ja, en)
}

// refusal makes one answer of all violations. It is a matter of policy when
// nothing but rules of the label and the route stand against the report.
func refusal(bad []rpc.Violation) *rpc.Refusal {
	code := codes.FailedPrecondition
	for _, v := range bad {
		if !policyReasons[v.Reason] {
			code = codes.InvalidArgument
		}
	}
	return &rpc.Refusal{Code: code, Reason: bad[0].Reason, Violations: bad}
}

var policyReasons = map[string]bool{
	"GREEN_NEEDS_COMMUNITY": true, "COMMUNITY_ONLY_FOR_GREEN": true, "COMMUNITY_NOT_YOURS": true,
	"RECIPIENTS_MISSING": true, "RED_NEEDS_PERSONS": true, "PERSONS_ONLY_FOR_RED": true,
	"RECIPIENT_OUTSIDE_LABEL": true, "ROUTE_NOT_OFFERED": true, "NOBODY_RECEIVES": true,
	"MANDATORY_OUTSIDE_LABEL": true, "RECIPIENT_OUTSIDE_SECRECY": true, "SECRECY_LOST": true, "ANONYMITY_REFUSED": true,
	"LABEL_LOOSER_THAN_SOURCE": true, "COMMUNITY_WIDER_THAN_SOURCE": true, "NO_DISTRIBUTION_NEEDS_RECIPIENTS": true,
	"NOTHING_REMAINS": true, "NAME_REMAINS": true,
	"EXPIRED": true, "FORWARD_FORBIDDEN": true, "ONLY_THE_SOURCE_FORWARDS": true, "NOT_YOURS_TO_GIVE": true,
}
