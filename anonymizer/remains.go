package anonymizer

import (
	"slices"

	pb "minato.example/proto/minato/v1"
)

// Remains reports whether a projection holds anything that helps its recipient:
// technique, a title or summary, a timeline, what may spread in words, the kind
// of an attacked system, what was damaged and done as far as it is known, a
// part. The types of event and cause, times and the risk of spreading alone tell
// a peer nothing that it can act on.
//
// A withdrawal always remains: whoever holds the earlier report must learn of
// it.
func Remains(p *pb.Report) bool {
	if p.GetStage() == pb.Stage_STAGE_WITHDRAWAL {
		return true
	}
	t := p.GetAttackTechnical()
	technique := t.GetText() != "" || t.GetRansom() != nil || t.GetDdos() != nil || t.GetStixBundle() != nil ||
		len(t.GetMalware())+len(t.GetTechniques())+len(t.GetVulnerabilities())+len(t.GetTools())+len(t.GetIndicators()) > 0
	text := p.GetTitle() != "" || p.GetSummary() != "" || p.GetSpread().GetText() != "" ||
		p.GetResponse() != "" || p.GetOthersResponse() != ""
	said := func(e *pb.TimelineEntry) bool { return e.GetText() != "" }
	timeline := slices.ContainsFunc(p.GetAttackTimeline(), said) || slices.ContainsFunc(p.GetResponseTimeline(), said)
	system := slices.ContainsFunc(p.GetAffectedSystems(), func(s *pb.AffectedSystem) bool {
		return s.GetKind() != pb.SystemKind_SYSTEM_KIND_UNSPECIFIED && s.GetKind() != pb.SystemKind_SYSTEM_KIND_OTHER || s.GetProduct() != ""
	})
	impact := p.GetImpact()
	business := impact.GetBusiness() != pb.BusinessImpact_BUSINESS_IMPACT_UNSPECIFIED && impact.GetBusiness() != pb.BusinessImpact_BUSINESS_IMPACT_UNKNOWN
	state := business || len(impact.GetAffectedServices()) > 0 || impact.GetUsersEffect() != ""
	recovery := p.GetRecovery()
	known := recovery.GetState() != pb.RecoveryState_RECOVERY_STATE_UNSPECIFIED && recovery.GetState() != pb.RecoveryState_RECOVERY_STATE_UNKNOWN
	state = state || known || recovery.GetExpected().GetTime() != nil
	return technique || text || timeline || system || state || len(p.GetAttachments()) > 0
}
