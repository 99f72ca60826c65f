package minatov1

import "slices"

// Parts is everything that travels beside a report: its STIX bundle, then its
// attachments.
func (x *Report) Parts() (all []*Part) {
	if b := x.GetAttackTechnical().GetStixBundle(); b != nil {
		all = append(all, b)
	}
	return append(all, x.GetAttachments()...)
}

// Outline is all of a report that decides who gets which copy. It shares the
// report's memory.
func (x *Report) Outline() *Outline {
	return &Outline{
		ReportId: x.GetReportId(), CaseId: x.GetCaseId(), Sequence: x.GetSequence(), Stage: x.GetStage(), Lane: x.GetLane(),
		Tlp: x.GetTlp(), CommunityId: x.GetCommunityId(), Restrictions: x.GetRestrictions(),
		OnwardPermissions: x.GetOnwardPermissions(), Recipients: x.GetRecipients(), SecrecyRegime: x.GetSecrecyRegime(),
		DerivedFrom: x.GetDerivedFrom(), Relabels: x.GetRelabels(), Facts: x.facts(), LegalBasis: x.GetLegalBasis(),
		CreateTime: x.GetCreateTime(), RetentionTime: x.GetRetentionTime(),
	}
}

// Says reports whether a fact holds.
func (x *Outline) Says(f Fact) bool { return slices.Contains(x.GetFacts(), f) }

// facts is what routing may look at, in the order of the enum.
func (x *Report) facts() (all []Fact) {
	business := x.GetImpact().GetBusiness()
	technical := x.GetAttackTechnical()
	for _, f := range []struct {
		fact  Fact
		holds bool
	}{
		{Fact_FACT_BUSINESS_IMPACT, business != BusinessImpact_BUSINESS_IMPACT_UNSPECIFIED &&
			business != BusinessImpact_BUSINESS_IMPACT_NONE && business != BusinessImpact_BUSINESS_IMPACT_UNKNOWN},
		{Fact_FACT_ATTACK, x.GetCause().GetClass() == CauseClass_CAUSE_CLASS_INTENTIONAL},
		{Fact_FACT_NEAR_MISS, slices.Contains(x.GetEvent().GetTypes(), EventType_EVENT_TYPE_NEAR_MISS)},
		{Fact_FACT_PERSONAL_DATA, x.GetPersonalData() == PersonalData_PERSONAL_DATA_POSSIBLE ||
			x.GetPersonalData() == PersonalData_PERSONAL_DATA_CONFIRMED},
		{Fact_FACT_DESIGNATED_COMPUTER, slices.ContainsFunc(x.GetAffectedSystems(), (*AffectedSystem).GetIsDesignatedComputer)},
		{Fact_FACT_USERS_AFFECTED, x.GetImpact().GetUsersEffect() != "" || len(x.GetImpact().GetAffectedServices()) > 0},
		{Fact_FACT_TOS, slices.ContainsFunc(x.GetAffectedSystems(), func(s *AffectedSystem) bool { return s.GetKind() == SystemKind_SYSTEM_KIND_TOS })},
		{Fact_FACT_TECHNIQUE, len(technical.GetMalware())+len(technical.GetTechniques())+len(technical.GetVulnerabilities())+
			len(technical.GetTools())+len(technical.GetIndicators())+len(technical.GetText()) > 0 ||
			technical.GetRansom() != nil || technical.GetDdos() != nil || technical.GetStixBundle() != nil},
		{Fact_FACT_INCIDENT, x.GetKind() == Kind_KIND_INCIDENT},
		{Fact_FACT_NOTICE, x.GetKind() == Kind_KIND_NOTICE},
		{Fact_FACT_LEGAL_DUTY, x.GetReason() == Reason_REASON_LEGAL_DUTY},
		{Fact_FACT_SERIOUS_IMPACT, x.GetReason() == Reason_REASON_SERIOUS_IMPACT},
		{Fact_FACT_VOLUNTARY, x.GetReason() == Reason_REASON_VOLUNTARY},
		{Fact_FACT_UNSURE_CONSULT, x.GetReason() == Reason_REASON_UNSURE_CONSULT},
		{Fact_FACT_DIRECT, x.GetRouteChoice() == RouteChoice_ROUTE_CHOICE_DIRECT},
		{Fact_FACT_SECRETARIAT_ANON, x.GetRouteChoice() == RouteChoice_ROUTE_CHOICE_SECRETARIAT_ANON},
		{Fact_FACT_SECRETARIAT_NAMED, x.GetRouteChoice() == RouteChoice_ROUTE_CHOICE_SECRETARIAT_NAMED},
		{Fact_FACT_CABINET_CONSENT, x.GetConsents().GetCabinetShare()},
		{Fact_FACT_EXPERT_CONSENT, x.GetConsents().GetExpertShare()},
		{Fact_FACT_PEER_NAMED, x.GetConsents().GetPeerNamed()},
		{Fact_FACT_PEER_DAMAGE, x.GetConsents().GetPeerDamage()},
	} {
		if f.holds {
			all = append(all, f.fact)
		}
	}
	return all
}
