package main

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// words are the values of the contract as people read them. The Japanese terms
// are those of the guideline.
var words = map[string]Text{
	"ROLE_OPERATOR":             {"重要インフラ事業者等", "operator"},
	"ROLE_PORT_AUTHORITY":       {"港湾管理者", "port authority"},
	"ROLE_PORT_COMPANY":         {"港湾運営会社", "port company"},
	"ROLE_REGIONAL_TRANSPORT":   {"地方運輸局等", "regional transport bureau"},
	"ROLE_REGIONAL_DEVELOPMENT": {"地方整備局等", "regional development bureau"},
	"ROLE_MINISTRY":             {"所管省庁", "ministry"},
	"ROLE_CABINET_CYBER":        {"国家サイバー統括室", "National Cybersecurity Office"},
	"ROLE_CABINET_CRISIS":       {"事態対処・危機管理担当", "cabinet crisis management"},
	"ROLE_SECRETARIAT":          {"セプター事務局", "secretariat"},
	"ROLE_COUNCIL":              {"セプターカウンシル", "council"},
	"ROLE_POLICE":               {"都道府県警察", "police"},
	"ROLE_COAST_GUARD":          {"海上保安庁", "coast guard"},
	"ROLE_EXPERT":               {"専門組織", "expert body"},
	"ROLE_ISAC":                 {"交通ISAC", "ISAC"},
	"ROLE_USERS":                {"TOS利用者等", "users"},
	"ROLE_PRIVACY_COMMISSION":   {"個人情報保護委員会", "Personal Information Protection Commission"},
	"ROLE_INCIDENT_MINISTRY":    {"事案対処省庁", "incident ministry"},
	"ROLE_DISASTER_MINISTRY":    {"防災関係府省庁", "disaster ministry"},

	"MEMBER_STATE_INVITED": {"招待済み", "invited"},
	"MEMBER_STATE_ACTIVE":  {"参加中", "active"},
	"MEMBER_STATE_REVOKED": {"失効", "revoked"},

	"CERTAINTY_CONFIRMED": {"確定", "confirmed"},
	"CERTAINTY_PROBABLE":  {"可能性が高い", "probable"},
	"CERTAINTY_SUSPECTED": {"疑い", "suspected"},
	"CERTAINTY_UNKNOWN":   {"不明", "unknown"},

	"STAGE_PRELIMINARY": {"第一報", "first report"},
	"STAGE_FOLLOW_UP":   {"続報", "follow-up"},
	"STAGE_FINAL":       {"最終報", "final"},
	"STAGE_CORRECTION":  {"訂正", "correction"},
	"STAGE_WITHDRAWAL":  {"取下げ", "withdrawal"},

	"EVENT_TYPE_NEAR_MISS":   {"予兆・ヒヤリハット", "near miss"},
	"EVENT_TYPE_LEAK":        {"情報の漏えい", "leak"},
	"EVENT_TYPE_DESTRUCTION": {"情報の破壊", "destruction"},
	"EVENT_TYPE_UNAVAILABLE": {"システム等の利用困難", "unavailable"},
	"EVENT_TYPE_MALWARE":     {"マルウェア等の感染", "malware"},
	"EVENT_TYPE_CODE_EXEC":   {"不正コード等の実行", "code execution"},
	"EVENT_TYPE_INTRUSION":   {"システム等への侵入", "intrusion"},
	"EVENT_TYPE_OTHER":       {"その他", "other"},
	"EVENT_TYPE_UNKNOWN":     {"不明 (確認中)", "unknown"},

	"CAUSE_CLASS_INTENTIONAL":   {"意図的な原因", "intentional"},
	"CAUSE_CLASS_ACCIDENTAL":    {"偶発的な原因", "accidental"},
	"CAUSE_CLASS_ENVIRONMENTAL": {"環境的な原因", "environmental"},
	"CAUSE_CLASS_OTHER":         {"その他の原因", "other"},
	"CAUSE_CLASS_UNKNOWN":       {"不明", "unknown"},

	"BUSINESS_IMPACT_NONE":       {"影響なし", "none"},
	"BUSINESS_IMPACT_DEGRADED":   {"一部支障", "degraded"},
	"BUSINESS_IMPACT_STOPPED":    {"停止", "stopped"},
	"BUSINESS_IMPACT_RECOVERING": {"復旧中", "recovering"},
	"BUSINESS_IMPACT_RESTORED":   {"復旧済み", "restored"},
	"BUSINESS_IMPACT_UNKNOWN":    {"不明", "unknown"},

	"SPREAD_RISK_NONE":     {"なし", "none"},
	"SPREAD_RISK_POSSIBLE": {"あり得る", "possible"},
	"SPREAD_RISK_ONGOING":  {"拡大中", "ongoing"},
	"SPREAD_RISK_UNKNOWN":  {"不明", "unknown"},

	"RECOVERY_STATE_NOT_NEEDED":  {"復旧を要しない", "not needed"},
	"RECOVERY_STATE_NOT_STARTED": {"未着手", "not started"},
	"RECOVERY_STATE_IN_PROGRESS": {"復旧作業中", "in progress"},
	"RECOVERY_STATE_PARTIAL":     {"一部復旧", "partial"},
	"RECOVERY_STATE_RESTORED":    {"復旧済み", "restored"},
	"RECOVERY_STATE_UNKNOWN":     {"不明", "unknown"},

	"PERSONAL_DATA_NONE":      {"なし", "none"},
	"PERSONAL_DATA_POSSIBLE":  {"可能性あり", "possible"},
	"PERSONAL_DATA_CONFIRMED": {"確認済み", "confirmed"},
	"PERSONAL_DATA_UNKNOWN":   {"不明", "unknown"},

	"REACTION_SEEN":         {"確認した", "seen"},
	"REACTION_CHECKING":     {"調査中", "checking"},
	"REACTION_AFFECTED":     {"該当する", "affected"},
	"REACTION_NOT_AFFECTED": {"該当しない", "not affected"},
	"REACTION_HANDLED":      {"対応済み", "handled"},

	"ACT_AUTO":   {"自動", "automatic"},
	"ACT_PROMPT": {"要判断", "you decide"},
	"ACT_TASK":   {"受け手の仕事", "for a recipient"},
	"ACT_EXPORT": {"書式", "form"},

	"OBLIGATION_LAW":    {"法令", "law"},
	"OBLIGATION_MUST":   {"義務", "must"},
	"OBLIGATION_PLAN":   {"計画", "plan"},
	"OBLIGATION_SHOULD": {"望ましい", "should"},
	"OBLIGATION_MAY":    {"任意", "may"},

	"FLOW_AUTHORITY":  {"報告", "report"},
	"FLOW_PEER":       {"共有", "sharing"},
	"FLOW_EXPERT":     {"専門組織との共有", "sharing with experts"},
	"FLOW_EXPERT_NDA": {"秘密保持契約のある専門組織との共有", "sharing with experts under a non-disclosure agreement"},
	"FLOW_ANONYMOUS":  {"事務局経由の匿名報告", "anonymous report through the secretariat"},
	"FLOW_PUBLIC":     {"公表", "publication"},
	"FLOW_STATUS":     {"利用者への状況提供", "status for users"},

	"KIND_INCIDENT": {"事案", "incident"},
	"KIND_NOTICE":   {"注意喚起・情報提供", "notice"},

	"SECRECY_REGIME_NONE":           {"なし", "none"},
	"SECRECY_REGIME_COUNCIL_MEMBER": {"協議会構成員の守秘義務", "secrecy of the council's members"},
	"SECRECY_REGIME_CONTRACT":       {"契約による守秘", "secrecy by contract"},

	"NOTICE_STATE_NOT_NEEDED": {"不要", "not needed"},
	"NOTICE_STATE_PLANNED":    {"予定", "planned"},
	"NOTICE_STATE_DONE":       {"済み", "done"},
	"NOTICE_STATE_DECLINED":   {"行わない", "declined"},

	"OUTBOX_STATE_QUEUED":   {"送信待ち", "queued"},
	"OUTBOX_STATE_ACCEPTED": {"受領", "accepted"},
	"OUTBOX_STATE_REFUSED":  {"拒否", "refused"},
}

// word is a value of the contract as people read it; the zero value is "-".
func word(e protoreflect.Enum) Text {
	value := e.Descriptor().Values().ByNumber(e.Number())
	if value == nil || e.Number() == 0 {
		return Text{"-", "-"}
	}
	if t, ok := words[string(value.Name())]; ok {
		return t
	}
	return Text{string(value.Name()), string(value.Name())}
}

// roleWord are roles as the policy writes them, such as port_authority, as
// people read them. What is no role is shown as it is; none means the own
// organisation.
func roleWord(roles string) Text {
	if roles == "" {
		return Text{"自組織", "your own organisation"}
	}
	var ja, en []string
	for role := range strings.SplitSeq(roles, ",") {
		role = strings.TrimSpace(role)
		t, ok := words["ROLE_"+strings.ToUpper(role)]
		if !ok {
			t = Text{plain(role), plain(role)}
		}
		ja, en = append(ja, t.JA), append(en, t.EN)
	}
	return Text{strings.Join(ja, "、"), strings.Join(en, ", ")}
}

// choices are the values of an enum as they are typed: EVENT_TYPE_CODE_EXEC is
// code_exec.
func choices(e protoreflect.Enum) []string {
	var out []string
	values := e.Descriptor().Values()
	for i := range values.Len() {
		if v := values.Get(i); v.Number() != 0 {
			out = append(out, typed(v))
		}
	}
	return out
}

// typed drops the prefix that buf's style gives every value of an enum.
func typed(v protoreflect.EnumValueDescriptor) string {
	zero := string(v.Parent().(protoreflect.EnumDescriptor).Values().ByNumber(0).Name())
	prefix := strings.TrimSuffix(zero, "UNSPECIFIED")
	return strings.ToLower(strings.TrimPrefix(string(v.Name()), prefix))
}

// parseChoice reads a typed value of the enum of which E is a member. Capitals
// and hyphens are accepted.
func parseChoice[E interface {
	~int32
	protoreflect.Enum
}](flag, s string) (E, error) {
	var zero E
	want := strings.ReplaceAll(strings.ToLower(strings.TrimSpace(s)), "-", "_")
	values := zero.Descriptor().Values()
	for i := range values.Len() {
		if v := values.Get(i); v.Number() != 0 && typed(v) == want {
			return E(v.Number()), nil
		}
	}
	all := choices(zero)
	if len(all) > 9 {
		slices.Sort(all)
	}
	return zero, usage(
		textf("--%s の値 %q は使えません", "--%s cannot be %q", flag, cut(plain(s), 60)),
		textf("使える値: %s", "use one of: %s", strings.Join(all, ", ")))
}
