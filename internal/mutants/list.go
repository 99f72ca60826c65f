package main

// The tests that have to notice a fault.
var (
	table       = tests{"./tlp", "."}
	wholeDomain = tests{"./hub", "^(TestThePlanIsWhatTheTablesSayOverTheWholeDomain|TestPlanIsTheTable)$"}
	passing     = tests{"./hub", "^TestPassingOnIsWhatTheTablesSayOverTheWholeDomain$"}
	properties  = tests{"./hub", "^TestPropertiesOfDecisionsHold$"}
	goldens     = tests{"./hub", "^TestPlansOfAPortAreThoseThatWereReviewed$"}
	derived     = tests{"./hub", "^(TestWhatIsDerivedReachesOnlyWhoMayHaveTheParent|TestWhoLostAParentPassesItOnToNobody)$"}
	inherited   = tests{"./hub", "^(TestWhatDerivesFromAReportIsAtLeastAsStrict|TestADutyOfSecrecyIsInherited|TestRestrictionsOfAllSourcesHoldTogether)$"}
	lateComers  = tests{"./hub", "^(TestALateComerGetsWhatTheTableSaysAndNothingElse|TestAPolicyWithoutAWindowGivesALateComerNothing)$"}
	rows        = tests{"./hub", "^(TestEveryRowOfTheGuidelineFiresWhenItMustAndOnlyThen|TestPlansOfAPortAreThoseThatWereReviewed|TestTheBuiltInPolicyIsTheTableOfTheScheme)$"}
	nameless    = tests{"./hub", "^TestACopyWithoutANameHoldsNoByteThatTellsOfItsSource$"}
	bundles     = tests{"./hub", "^TestAPeerMayReadTheBundleOfItsCopyAndNotThatOfTheReport$"}
	remains     = tests{"./hub", "^TestACopyThatWouldTellNothingOrTheNameIsRefusedBeforeItIsSent$"}
	neverWas    = tests{"./hub", "^TestWhatAMemberMayNotSeeIsAsWhatNeverWas$"}
	expiry      = tests{"./hub", "^TestWhatHasExpiredDoesNotLeaveAnyMore$"}
	relabelling = tests{"./hub", "^TestHoldersHearOfANewLabelAndNobodyElse$"}
	forwards    = tests{"./hub", "^(TestARecipientPassesOnToWhomTheRulesAllow|TestAForwardedCopyHoldsAtMostWhatTheHoldersHolds)$"}
	steps       = tests{"./hub", "^(TestAStepIsDecidedOnceAndOnRecord|TestAnInstructionsIdIsNeverUsedForAnother)$"}
	unsealed    = tests{"./hub", "^TestTheHubRefusesToReadWhatMustBeSealed$"}
	seals       = tests{"./hub", "^TestSealsThatDoNotFitThePlanAreSentBack$"}
	sealed      = tests{"./hub", "^(TestASealedReportReachesThePersonsNamedAndTheHubReadsNothing|TestOnlyTheSourceGivesASealedReportToOneMore)$"}
	lanes       = tests{"./hub", "^TestAnExerciseAndALiveReportNeverMeet$"}
	crashes     = tests{"./hub", "^TestAForwardIsOnDiskOnceWhateverTheJournalDoes$"}
	checks      = tests{"./internal/check", "."}
	fields      = tests{"./anonymizer", "^(TestEachFlow|TestNoVerdict|TestUsersLearn|TestACopySays|TestExactlyThese|TestARansomNote|TestTheBundle)"}
	bundleTests = tests{"./internal/stix", "Project"}
)

// mutants are the faults, each with the rule that it breaks.
var mutants = []mutant{
	// FIRST TLP 2.0.
	{"TLP:CLEAR is for everybody", "tlp/tlp.go", "	case Clear:\n		return true\n", "	case Clear:\n		return r&Member != 0\n", table},
	{"TLP:GREEN is for the community, not for an address outside", "tlp/tlp.go", "return r&(InCommunity|Origin) != 0", "return r&(InCommunity|Addressed|Origin) != 0", wholeDomain},
	{"TLP:AMBER is not for the community", "tlp/tlp.go", "return r&(Addressed|ClientOfAddressed|NamedPerson|Origin) != 0", "return r&(Addressed|ClientOfAddressed|NamedPerson|Origin|Member) != 0", passing},
	{"TLP:AMBER goes on to clients", "tlp/tlp.go", "return r&(Addressed|ClientOfAddressed|NamedPerson|Origin) != 0", "return r&(Addressed|NamedPerson|Origin) != 0", passing},
	{"TLP:AMBER+STRICT goes on to no client", "tlp/tlp.go", "return r&(Addressed|NamedPerson|Origin) != 0", "return r&(Addressed|ClientOfAddressed|NamedPerson|Origin) != 0", table},
	{"TLP:RED is for persons, not for their organisation", "tlp/tlp.go", "return r&(NamedPerson|Origin) != 0", "return r&(Addressed|NamedPerson|Origin) != 0", wholeDomain},
	{"what is made of parts has the strictest of their labels", "tlp/tlp.go", "strictest = max(strictest, l)", "strictest = l", table},

	// The audience of a report.
	{"who is in a community is in those above it", "hub/plan.go", "own == community || slices.Contains(w.policy.above(own), community)", "own == community", wholeDomain},
	{"who is in a community is not in those below it", "hub/plan.go", "slices.Contains(w.policy.above(own), community)", "slices.Contains(w.policy.above(community), own)", wholeDomain},
	{"TLP:RED needs a named person", "hub/plan.go", "	if len(c.persons) > 0 {\n		facts |= tlp.NamedPerson", "	if len(c.persons) >= 0 {\n		facts |= tlp.NamedPerson", wholeDomain},
	{"a duty of secrecy keeps out who is not under it", "hub/plan.go", "s <= pb.SecrecyRegime_SECRECY_REGIME_NONE || slices.Contains(m.GetSecrecyRegimes(), s)", "s >= 0 || slices.Contains(m.GetSecrecyRegimes(), s)", wholeDomain},
	{"配布禁止 keeps out whom only a should names", "hub/plan.go", "GetNoDistribution() && !c.sought && !binds(c.grounds)", "GetNoDistribution() && !c.sought && false", wholeDomain},
	{"配布禁止 keeps out nobody who must be told", "hub/plan.go", "GetNoDistribution() && !c.sought && !binds(c.grounds)", "GetNoDistribution() && !c.sought", wholeDomain},
	{"配布禁止 needs recipients", "hub/plan.go", "	if p.plan.GetHandling().GetRestrictions().GetNoDistribution() {", "	if false {", wholeDomain},
	{"who must be told and may not is an error before sending", "hub/plan.go", "case binds(c.grounds) && !p.reachedOnward(c.member):", "case false && !p.reachedOnward(c.member):", wholeDomain},
	{"who must be told can be reached by a permission to pass on", "hub/plan.go", "case binds(c.grounds) && !p.reachedOnward(c.member):", "case binds(c.grounds):", goldens},
	{"a permission to pass on helps only where that is allowed", "hub/plan.go", "	if len(forwardable(p.label, p.label.NeedsSeal(), p.plan.GetHandling(), true, p.w.now)) > 0 {\n		return false", "	if false {\n		return false", tests{"./hub", "^TestAPermissionThatNobodyMayUseIsNone$"}},
	{"an office is told where it is competent", "hub/plan.go", "if !r.near || len(m.GetJurisdictions()) == 0", "if true || len(m.GetJurisdictions()) == 0", wholeDomain},
	{"the source does not address itself", "hub/plan.go", "case to.GetMember() == source:", "case false && to.GetMember() == source:", wholeDomain},
	{"a revoked member is nobody", "hub/plan.go", "case m == nil || m.GetState() == pb.MemberState_MEMBER_STATE_REVOKED:", "case m == nil:", wholeDomain},
	{"an invited member has not joined", "hub/plan.go", "	case !active:\n", "	case !active && m == nil:\n", wholeDomain},
	{"a person must be known", "hub/plan.go", "if _, ok := person(m, to.GetPerson()); !ok {", "if _, ok := person(m, to.GetPerson()); !ok && m == nil {", wholeDomain},
	{"a row that waits for a person gives no copy", "hub/plan.go", "if r.act != pb.Act_ACT_AUTO && c == nil {", "if r.act == pb.Act_ACT_EXPORT && c == nil {", wholeDomain},
	{"a task gives no copy", "hub/plan.go", "		if r.act == pb.Act_ACT_TASK {\n", "		if false {\n", goldens},
	{"what has expired is refused", "hub/plan.go", "GetExpireTime(); e != nil && !w.now.Before(e.AsTime()) {", "GetExpireTime(); e != nil && w.now.IsZero() {", wholeDomain},
	{"users hear of the state only", "hub/plan.go", "if !toldOfState && tlp.Permits", "if (!toldOfState || true) && tlp.Permits", wholeDomain},
	{"what the law obliges to report is not anonymous", "hub/plan.go", "if (len(duties) > 0 || p.o.Says(pb.Fact_FACT_LEGAL_DUTY)) && p.o.Says", "if false && p.o.Says", wholeDomain},
	{"a legal duty of the organisation alone ends anonymity too", "hub/plan.go", "if (len(duties) > 0 || p.o.Says(pb.Fact_FACT_LEGAL_DUTY))", "if p.o.Says(pb.Fact_FACT_LEGAL_DUTY)", wholeDomain},
	{"the source's order of recipients does not matter", "hub/plan.go", "	slices.SortFunc(p.candidates, func(a, b *candidate) int { return strings.Compare(a.member.GetId(), b.member.GetId()) })\n", "", properties},

	// What a copy holds.
	{"an issuer's own notice is whole", "hub/plan.go", "p.o.Says(pb.Fact_FACT_NOTICE) && p.w.policy.issuers[p.source.GetRole()]", "false && p.w.policy.issuers[p.source.GetRole()]", wholeDomain},
	{"an operator's notice is not whole", "hub/plan.go", "p.o.Says(pb.Fact_FACT_NOTICE) && p.w.policy.issuers[p.source.GetRole()]", "p.o.Says(pb.Fact_FACT_NOTICE)", wholeDomain},
	{"an issuer's incident is not whole", "hub/plan.go", "p.o.Says(pb.Fact_FACT_NOTICE) && p.w.policy.issuers[p.source.GetRole()]", "p.w.policy.issuers[p.source.GetRole()]", wholeDomain},
	{"peers see the whole only with both consents", "hub/plan.go", "p.o.Says(pb.Fact_FACT_PEER_NAMED) && p.o.Says(pb.Fact_FACT_PEER_DAMAGE)", "p.o.Says(pb.Fact_FACT_PEER_DAMAGE)", wholeDomain},
	{"peers see the name only with consent", "hub/plan.go", "	case pb.Flow_FLOW_PEER:\n		return o.Says(pb.Fact_FACT_PEER_NAMED)", "	case pb.Flow_FLOW_PEER:\n		return true", wholeDomain},
	{"an expert is trusted by its agreement", "hub/plan.go", "f == pb.Flow_FLOW_EXPERT && m.GetNda()", "f == pb.Flow_FLOW_EXPERT", wholeDomain},
	{"a row by name gives the whole", "hub/plan.go", "		case c.named:\n			f = pb.Flow_FLOW_AUTHORITY", "		case false:\n			f = pb.Flow_FLOW_AUTHORITY", tests{"./hub", "^TestARowThatNamesTheSourceGivesThePeerTheWholeReport$"}},
	{"a copy is built for its own flow", "hub/compose.go", "anonymizer.Project(from.report, c.GetFlow(), bundle)", "anonymizer.Project(from.report, pb.Flow_FLOW_EXPERT_NDA, bundle)", nameless},
	{"a copy that tells nothing is refused", "hub/compose.go", "if !anonymizer.Remains(built.Report) {", "if false {", remains},
	{"a copy that still names the source is refused", "hub/compose.go", "	if c.GetNamed() {\n		return bad\n", "	if c.GetNamed() || len(names) > 0 {\n		return bad\n", remains},
	{"a peer reads the bundle of its copy, not that of the report", "hub/compose.go", "		if b := built.Report.GetAttackTechnical().GetStixBundle(); b != nil {\n", "		if b := from.report.GetAttackTechnical().GetStixBundle(); b != nil {\n			c.Parts = append(c.Parts, b.GetDigest())\n", bundles},

	// Inheritance and relabelling.
	{"a label is inherited", "hub/plan.go", "if tlp.Strictest(p.label, was) != p.label {", "if false {", inherited},
	{"a community is inherited", "hub/plan.go", "if was == tlp.Green && p.label == tlp.Green &&", "if false &&", inherited},
	{"a community inside of the source's will do", "hub/plan.go", "!slices.Contains(p.w.policy.above(p.o.GetCommunityId()), parent.GetCommunityId())", "!slices.Contains(p.w.policy.above(parent.GetCommunityId()), p.o.GetCommunityId())", inherited},
	{"what is derived goes no further than its parent", "hub/plan.go", "	case slices.ContainsFunc(p.parents, func(q parent) bool { return !q.mayHave(c.member, p.source, p.w) }):", "	case false:", derived},
	{"who cannot see a parent any more passes it on to nobody", "hub/plan.go", "	return q.quoted.held != nil && len(", "	return len(", derived},
	{"a duty of secrecy is inherited", "hub/plan.go", "s > pb.SecrecyRegime_SECRECY_REGIME_NONE && s != h.GetSecrecyRegime()", "s < 0", inherited},
	{"複製禁止 is inherited", "hub/plan.go", "a.GetNoCopy() || b.GetNoCopy()", "a.GetNoCopy()", inherited},
	{"持出禁止 is inherited", "hub/plan.go", "a.GetNoExport() || b.GetNoExport()", "a.GetNoExport() && b.GetNoExport()", inherited},
	{"配布禁止 is inherited", "hub/plan.go", "a.GetNoDistribution() || b.GetNoDistribution()", "b.GetNoDistribution()", inherited},
	{"the Chatham House Rule is inherited", "hub/plan.go", "a.GetChathamHouse() || b.GetChathamHouse()", "b.GetChathamHouse()", inherited},
	{"the earlier expiry holds", "hub/plan.go", "e.AsTime().Before(u.ExpireTime.AsTime())", "e.AsTime().After(u.ExpireTime.AsTime())", inherited},
	{"what is derived goes no further than what it derives from", "hub/plan.go", "if q.quoted == nil || m.GetId() == q.quoted.source ||", "if q.quoted == nil || m != nil ||", tests{"./hub", "^TestWhatIsDerivedReachesOnlyWhoMayHaveTheParent$"}},
	{"only the source relabels", "hub/submit.go", "!ok || e.source != from.id.member || e.caseID != o.GetCaseId()", "!ok || e.caseID != o.GetCaseId()", neverWas},
	{"only holders hear of a new label", "hub/gate.go", "g.relabels = slices.Contains(a.GetRelabelledHolders(), member)", "g.relabels = len(a.GetRelabelledHolders()) > 0", relabelling},
	{"the label in force decides", "hub/gate.go", "	if e.relabelled == 0 {\n", "	if true {\n", relabelling},

	// Passing on.
	{"TLP:AMBER goes to registered clients only", "hub/onward.go", "if slices.Contains(by.GetClients(), m.GetId()) &&", "if", passing},
	{"a client does not pass on to its own clients", "hub/onward.go", "if slices.Contains(by.GetClients(), m.GetId()) && !slices.ContainsFunc(held.GetGrounds(), func(g *pb.Ground) bool { return g.GetRule() == \"CLIENT\" }) {", "if slices.Contains(by.GetClients(), m.GetId()) {", passing},
	{"a permission says who passes on", "hub/onward.go", "means(permission.GetBy(), by) && means(permission.GetTo(), m)", "means(permission.GetTo(), m)", passing},
	{"a permission says to whom", "hub/onward.go", "means(permission.GetBy(), by) && means(permission.GetTo(), m)", "means(permission.GetBy(), by)", passing},
	{"a task says to whom", "hub/onward.go", "slices.Contains(t.GetMembers(), m.GetId()) || w.asks(t.GetGround().GetRule(), m)", "true", tests{"./hub", "^TestATaskReachesWhomItMeansAndNobodyElse$"}},
	{"only the source passes on what is sealed", "hub/onward.go", "	if sealed || label.NeedsSeal() {\n", "	if sealed && label.NeedsSeal() && r.GetNoCopy() {\n", passing},
	{"複製禁止 forbids passing on", "hub/onward.go", "{r.GetNoCopy(), ", "{false, ", passing},
	{"持出禁止 forbids passing on", "hub/onward.go", "{r.GetNoExport(), ", "{false, ", passing},
	{"配布禁止 forbids passing on", "hub/onward.go", "{r.GetNoDistribution(), ", "{false, ", passing},
	{"a duty of secrecy forbids passing on", "hub/onward.go", "{h.GetSecrecyRegime() > pb.SecrecyRegime_SECRECY_REGIME_NONE, ", "{false, ", passing},
	{"what has expired is not passed on", "hub/onward.go", "	if e := r.GetExpireTime(); e != nil && !now.Before(e.AsTime()) {\n", "	if e := r.GetExpireTime(); e != nil && now.IsZero() {\n", passing},
	{"who is not under the duty of secrecy gets nothing later either", "hub/onward.go", "if ground == nil || !secretTo(h, m) {", "if ground == nil {", passing},
	{"TLP:RED is passed on to persons", "hub/onward.go", "if label.NeedsPersons() != (r.GetPerson() != \"\") {", "if label.NeedsPersons() && r.GetPerson() == \"x\" {", passing},
	{"the Chatham House Rule keeps the name back", "hub/onward.go", "	case h.GetRestrictions().GetChathamHouse():\n", "	case false:\n", passing},
	{"nobody passes on more than it holds", "hub/onward.go", "return held.GetFlow() // as the holder has it", "return f", passing},
	{"nobody passes on a name that it does not know", "hub/onward.go", "namedIn(c.Flow, o) && (held == nil || held.GetNamed())", "namedIn(c.Flow, o)", passing},
	{"a forward is made of what the holder has", "hub/instruct.go", "if env, err = held.envelope(); err != nil {", "if _, err = held.envelope(); err != nil {", forwards},
	{"an instruction's id is used once", "hub/instruct.go", "x.GetBy() != by || !bytes.Equal(x.GetInstruction().GetPayload(), env.GetPayload())", "x.GetBy() != by", steps},
	{"an instruction is its member's own", "hub/instruct.go", "x.GetBy() != by || !bytes.Equal(x.GetInstruction().GetPayload(), env.GetPayload())", "!bytes.Equal(x.GetInstruction().GetPayload(), env.GetPayload())", steps},
	{"a recipient decides its own tasks only", "hub/instruct.go", "		steps = held.copy.GetTasks()\n", "		steps = append(steps, held.copy.GetTasks()...)\n", steps},
	{"a forward is durable before it is answered", "hub/instruct.go", "	if err := h.durable(ctx, l); err != nil {\n		return nil, err\n	}\n	return &pb.InstructReportResponse", "	return &pb.InstructReportResponse", crashes},

	// Late comers.
	{"a late comer reads back as far as the policy says", "hub/onward.go", "accepted.Before(w.now.Add(-window)), ", "false, ", lateComers},
	{"a policy without a window gives nothing", "hub/onward.go", "window <= 0, ", "window < 0, ", lateComers},
	{"a late comer gets nothing that was for somebody", "hub/onward.go", "len(o.GetRecipients()) > 0, r.GetNoDistribution()", "r.GetNoDistribution()", lateComers},
	{"a late comer outside of the community gets nothing", "hub/onward.go", "!secretTo(h, m), !tlp.Permits(label, w.relation(m, h.GetCommunityId())),", "!secretTo(h, m),", lateComers},

	// The gate.
	{"a nameless delivery names nobody", "hub/gate.go", "	if g.copy.GetNamed() {\n", "	if true {\n", nameless},
	{"a recipient hears nothing of what was left out", "hub/gate.go", "	c.Withheld, c.Generalised = nil, nil\n", "", nameless},
	{"a nameless copy shows no row of the policy", "hub/gate.go", "	if !c.GetNamed() {\n		// A row", "	if false {\n		// A row", nameless},
	{"a part is read by whose copy has it", "hub/gate.go", "return slices.ContainsFunc(g.copy.GetParts(), func(d []byte) bool { return bytes.Equal(d, digest) })", "return slices.ContainsFunc(g.accepted.GetParts(), func(p *pb.Part) bool { return bytes.Equal(p.GetDigest(), digest) })", nameless},
	{"what a member may not see is as what never was", "hub/gate.go", "	if !ok || (e.source != from.id.member && !l.index.holds(e, from.id.member)) {\n", "	if ok && e.source != from.id.member && !l.index.holds(e, from.id.member) {\n		return nil, nil, nil, notEnrolled()\n	}\n	if !ok {\n", neverWas},
	{"what has expired is not found", "hub/gate.go", "return e != nil && !now.Before(e.AsTime())", "return e != nil && now.IsZero()", neverWas},
	{"what has expired is not delivered", "hub/session.go", "	if g.expired(time.Now()) {\n", "	if false {\n", expiry},
	{"only the source sees how far copies have come", "hub/read.go", "	if grants != nil {\n		return nil, notFound()\n", "	if grants != nil && len(grants) == 0 {\n		return nil, notFound()\n", neverWas},
	{"a recipient asks about itself only", "hub/instruct.go", "		if req.GetMember() != from.id.member {\n", "		if req.GetMember() == \"\" {\n", neverWas},
	{"an id is one report for ever, drill or not", "hub/submit.go", "if other != s.lane && (request || report) {", "if false && (request || report) {", lanes},
	{"a lane is signed", "internal/check/check.go", "o.GetLane() != pb.Lane_LANE_UNSPECIFIED && o.GetLane() != lane", "false", checks},

	// Sealed reports.
	{"the hub does not read what must be sealed", "hub/submit.go", "if label := check.Label(o.GetTlp()); label.NeedsSeal() {", "if label := check.Label(o.GetTlp()); label.NeedsSeal() && false {", unsealed},
	{"a wrap is for the form of its recipient", "hub/compose.go", "variantFor(s, c) != int(wrap.GetVariant()) ||", "false ||", seals},
	{"a wrap is for a person who is named", "hub/compose.go", "(wrap.GetPerson() != \"\" && !slices.Contains(c.GetPersons(), wrap.GetPerson()))", "false", seals},
	{"a wrap is for a key that its owner published", "hub/compose.go", "!hasKey(w.dir.members[wrap.GetMember()], wrap)", "false", seals},
	{"under TLP:RED no wrap is for a node", "hub/compose.go", "(wrap.GetPerson() != \"\") != (len(c.GetPersons()) > 0) ||", "false ||", seals},
	{"every person who is named has a wrap", "hub/compose.go", "return w.GetMember() == c.GetMember() && w.GetPerson() == person })", "return w.GetMember() == c.GetMember() && (w.GetPerson() == person || person != \"\") })", seals},
	{"no form is for nobody", "hub/compose.go", "return c.GetFlow() == v.GetFlow() && c.GetNamed() == v.GetNamed() }) {\n			return planChanged()", "return c.GetFlow() != 0 || v == nil }) {\n			return planChanged()", seals},
	{"a nameless sealed copy names no other recipient", "hub/compose.go", "o.Recipients, o.DerivedFrom, o.LegalBasis, o.Facts, o.Relabels = nil, nil, nil, nil, \"\"", "o.DerivedFrom, o.LegalBasis, o.Facts, o.Relabels = nil, nil, nil, \"\"", sealed},
	{"a sealed copy holds the wraps of its member", "hub/compose.go", "if w.GetMember() == c.GetMember() && w.GetVariant() == uint32(i) {", "if w.GetVariant() < 8 {", sealed},

	// The policy's rules.
	{"no policy shows peers a victim without its consent", "hub/policy_file.go", "	r.discreet(p)\n", "", tests{"./hub", "^TestEveryMistakeInAPolicyIsToldWithItsLine$"}},
	{"a row fires when all of when is said", "hub/policy.go", "return !slices.ContainsFunc(r.when, missing) &&", "return (true || missing(0)) &&", goldens},
	{"a row does not fire when one of unless is said", "hub/policy.go", "!slices.ContainsFunc(r.unless, o.Says) &&", "true &&", goldens},
	{"a row fires when one of any is said", "hub/policy.go", "(len(r.anyOf) == 0 || slices.ContainsFunc(r.anyOf, o.Says))", "len(r.anyOf) >= 0", goldens},
	{"a row is for the roles in from", "hub/policy.go", "if len(r.from) > 0 && !slices.Contains(r.from, source.GetRole()) {", "if false {", goldens},
	{"rows wait for the mode and for being in use", "hub/policy.go", "return !r.off && (!r.large || p.largeScale)", "return !r.off", goldens},
	{"a row begins at its date", "hub/policy.go", "p.from.IsZero() || !t.Before(p.from)", "true", goldens},
	{"no law obliges by sector alone", "hub/policy.go", "slices.Contains(source.GetDesignations(), d.designation) && ", "", goldens},
	{"the law asks for the designated system", "hub/policy.go", "(!d.system || o.Says(pb.Fact_FACT_DESIGNATED_COMPUTER))", "true", goldens},

	// The rows of the routing table, one fault in the data of each.
	{"R1 own organisation", "hub/policy.toml", "id = \"R1\"\nwhen = [\"incident\"]\n", "id = \"R1\"\nwhen = [\"notice\"]\n", rows},
	{"R2 regional transport", "hub/policy.toml", "to = [\"regional_transport\"]\nnear = true\n", "to = [\"regional_transport\"]\n", rows},
	{"R3 port authority", "hub/policy.toml", "to = [\"port_authority\"]\nidentity = \"named\"\nobligation = \"must\"", "to = [\"port_authority\"]\nidentity = \"named\"\nobligation = \"should\"", rows},
	{"R4 regional development", "hub/policy.toml", "by = \"port_authority\"\n", "by = \"ministry\"\n", rows},
	{"R5 police, never by itself", "hub/policy.toml", "to = [\"police\"]\nnear = true\nidentity = \"named\"\nobligation = \"must\"\nact = \"prompt\"", "to = [\"police\"]\nnear = true\nidentity = \"named\"\nobligation = \"must\"\nact = \"auto\"", rows},
	{"R6 legal duty", "hub/policy.toml", "when = [\"legal_duty\"]\nto = [\"ministry\"]", "when = [\"legal_duty\"]\nto = [\"cabinet_cyber\"]", rows},
	{"R7 direct to the ministry", "hub/policy.toml", "any = [\"serious_impact\", \"voluntary\"]\n", "", rows},
	{"R8 by way of the secretariat, never by name", "hub/policy.toml", "to = [\"secretariat\"]\nidentity = \"anonymised\"", "to = [\"secretariat\"]\nidentity = \"named\"", rows},
	{"R9 consultation", "hub/policy.toml", "unless = [\"secretariat_anon\"]\n", "", rows},
	{"R10 peers", "hub/policy.toml", "to = [\"operator\", \"port_company\"]\nidentity = \"projected\"\nobligation = \"may\"\nact = \"prompt\"", "to = [\"operator\", \"port_company\"]\nidentity = \"projected\"\nobligation = \"may\"\nact = \"auto\"", rows},
	{"R11 experts", "hub/policy.toml", "to = [\"expert\"]\nidentity = \"projected\"", "to = [\"expert\"]\nidentity = \"named\"", rows},
	{"R12 the ministry to the cabinet", "hub/policy.toml", "to = [\"cabinet_cyber\", \"secretariat\"]", "to = [\"cabinet_cyber\"]", rows},
	{"R13 notices of the cabinet", "hub/policy.toml", "from = [\"cabinet_cyber\"]\nto = [\"ministry\", \"secretariat\", \"operator\"]", "from = [\"cabinet_cyber\"]\nto = [\"ministry\", \"secretariat\"]", rows},
	{"R14 from the secretariat", "hub/policy.toml", "\"expert\", \"council\", \"operator\"]\nidentity = \"projected\"\nobligation = \"plan\"\nact = \"prompt\"", "\"expert\", \"council\", \"operator\"]\nidentity = \"projected\"\nobligation = \"plan\"\nact = \"auto\"", rows},
	{"R14-in to the secretariat", "hub/policy.toml", "from = [\"ministry\", \"incident_ministry\", \"disaster_ministry\", \"expert\", \"council\"]", "from = [\"ministry\", \"incident_ministry\", \"disaster_ministry\", \"expert\"]", rows},
	{"R15 the council, each time anew", "hub/policy.toml", "to = [\"council\"]\nidentity = \"projected\"\nobligation = \"may\"\nact = \"prompt\"", "to = [\"council\"]\nidentity = \"projected\"\nobligation = \"may\"\nact = \"auto\"", rows},
	{"R16 the ISAC", "hub/policy.toml", "to = [\"isac\"]\nidentity = \"projected\"\nobligation = \"may\"\nact = \"prompt\"", "to = [\"isac\"]\nidentity = \"projected\"\nobligation = \"may\"\nact = \"auto\"", rows},
	{"R17 near misses of the TOS", "hub/policy.toml", "when = [\"near_miss\", \"tos\"]", "when = [\"tos\"]", rows},
	{"R18 users", "hub/policy.toml", "to = [\"users\"]\nidentity = \"projected\"\nobligation = \"must\"\nact = \"prompt\"", "to = [\"users\"]\nidentity = \"projected\"\nobligation = \"must\"\nact = \"auto\"", rows},
	{"R19 personal data", "hub/policy.toml", "when = [\"personal_data\"]\nunless = [\"notice\"]\n", "when = [\"personal_data\"]\n", rows},
	{"R20 large-scale mode", "hub/policy.toml", "to = [\"cabinet_cyber\", \"cabinet_crisis\"]\nidentity = \"named\"\nobligation = \"plan\"\nact = \"auto\"\noutside = true\nlarge_scale = true\n", "to = [\"cabinet_cyber\", \"cabinet_crisis\"]\nidentity = \"named\"\nobligation = \"plan\"\nact = \"auto\"\noutside = true\n", rows},
	{"R20-task large-scale mode", "hub/policy.toml", "to = [\"cabinet_crisis\"]\nidentity = \"named\"\nobligation = \"plan\"\nact = \"task\"\noutside = true\nlarge_scale = true\n", "to = [\"cabinet_crisis\"]\nidentity = \"named\"\nobligation = \"plan\"\nact = \"task\"\noutside = true\n", rows},
	{"R21 the law of 2026", "hub/policy.toml", "start = 2026-10-01\n", "", rows},
	{"R21 for the designated system only", "hub/policy.toml", "system = true\nto = [\"ministry\", \"cabinet_cyber\"]", "to = [\"ministry\", \"cabinet_cyber\"]", rows},
	{"R22 with consent", "hub/policy.toml", "when = [\"cabinet_consent\"]\n", "", rows},
	{"R23 is off", "hub/policy.toml", "id = \"R23\"\noff = true\n", "id = \"R23\"\n", rows},
	{"operators are peers", "hub/policy.toml", "\noperator = \"peer\"\n", "\noperator = \"expert\"\n", rows},
	{"users see the state", "hub/policy.toml", "\nusers = \"status\"\n", "\nusers = \"peer\"\n", rows},
	{"operators are no issuers", "hub/policy.toml", "issuers = [\n    \"port_authority\",", "issuers = [\n    \"operator\", \"port_authority\",", rows},
	{"a late comer reads a week of TLP:GREEN", "hub/policy.toml", "green = \"7d\"", "green = \"30d\"", lateComers},

	// Projections.
	{"a peer does not hear the summary of an incident", "anonymizer/fields.go", "\nsummary                                  notice|damage notice  keep        notice     keep    notice\n", "\nsummary keep notice keep notice keep notice\n", fields},
	{"a peer does not hear the response", "anonymizer/fields.go", "\nresponse                                 damage        -       keep        -          keep    -\n", "\nresponse keep - keep - keep -\n", fields},
	{"a peer does not hear of the recovery", "anonymizer/fields.go", "\nrecovery.state                           damage        -       keep        -          keep    keep\n", "\nrecovery.state keep - keep - keep keep\n", fields},
	{"a peer does not hear who reports", "anonymizer/fields.go", "\nreporter.organisation                    named         -       keep        -          keep    -\n", "\nreporter.organisation keep - keep - keep -\n", fields},
	{"a peer hears the kind of a system, not the product", "anonymizer/fields.go", "\naffected_systems.product                 -             keep    keep        -          keep    -\n", "\naffected_systems.product keep keep keep - keep -\n", fields},
	{"a peer hears the day of an attack, not the minute", "anonymizer/fields.go", "\nattack_timeline.moment.time              day           keep    keep        day        keep    -\n", "\nattack_timeline.moment.time keep keep keep day keep -\n", fields},
	{"a peer hears of a vulnerability after advice only", "anonymizer/fields.go", "\nattack_technical.vulnerabilities         advised       keep    keep        keep       keep    -\n", "\nattack_technical.vulnerabilities keep keep keep keep keep -\n", fields},
	{"nobody hears from which report it derives", "anonymizer/fields.go", "\nderived_from                             -             -       -           -          -       -\n", "\nderived_from keep - - - - -\n", fields},
	{"users hear of the service, not of the event", "anonymizer/fields.go", "\nevent.types                              keep          keep    keep        keep       keep    -\n", "\nevent.types keep keep keep keep keep keep\n", fields},
	{"a peer gets the technique", "anonymizer/fields.go", "\nattack_technical.text                    keep          keep    keep        keep       -       -\n", "\nattack_technical.text - keep keep keep - -\n", fields},
	{"a part with hidden data stays", "anonymizer/fields.go", "\nTECHNIQUE  sanitised               keep       keep        sanitised", "\nTECHNIQUE  keep                    keep       keep        sanitised", fields},
	{"the damage stays", "anonymizer/fields.go", "\nDAMAGE     damage+sanitised        -  ", "\nDAMAGE     sanitised               -  ", fields},
	{"a ransom note goes without the victim's id", "anonymizer/project.go", "			cleaned := clean(v.String())\n", "			cleaned := v.String()\n", fields},
	{"objects of the victim stay", "internal/stix/project.go", "(s.scope == victim && !f.Victim)", "false", bundleTests},
	{"vulnerabilities go where they may", "internal/stix/project.go", "(s.scope == vulnerable && !f.Vulnerabilities)", "false", fields},
	{"the names of files stay", "internal/stix/project.go", "(e.kind == \"file\" && p.name == \"name\" && !f.FileNames)", "false", tests{"./internal/stix", "^TestTheNameOfASample"}},
	{"a property that nobody listed stays", "internal/stix/project.go", "if !listed || ", "if false && listed || ", tests{"./internal/stix", "."}},
}
