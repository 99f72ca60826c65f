package main

import "strings"

// reasonText says in a person's words why the hub was not reached. What is not
// known here is shown as it came.
func reasonText(raw string) Text {
	for _, known := range []struct {
		words []string
		text  Text
	}{
		{[]string{"connection refused"}, Text{"相手が接続を拒否しています (ハブが止まっているか、ポートが閉じています)", "the connection is refused (the hub is down, or the port is closed)"}},
		{[]string{"no such host", "server misbehaving"}, Text{"ハブのホスト名が見つかりません (DNS)", "the hub's host name is not found (DNS)"}},
		{[]string{"network is unreachable", "no route to host"}, Text{"ハブまでの経路がありません (ネットワーク)", "there is no way to the hub (network)"}},
		{[]string{"i/o timeout", "deadline exceeded", "DeadlineExceeded"}, Text{"時間内に応答がありません", "there is no answer in time"}},
		{[]string{"the hub is silent", "connection closed", "EOF", "reset by peer", "broken pipe", "closing transport", "GOAWAY"}, Text{"接続が切れました", "the connection broke"}},
		{[]string{"store is full"}, Text{"ハブの保存領域がいっぱいです。ハブの管理者に連絡してください", "the hub's store is full; tell its administrator"}},
		{[]string{"cannot store the report", "hub is busy"}, Text{"ハブが今は受け付けられません", "the hub cannot take it now"}},
		{[]string{"tls:", "x509:", "certificate"}, Text{"証明書が受け付けられません (取り消し、期限切れ、または時計のずれ)", "the certificate is not accepted (revoked, expired, or a wrong clock)"}},
	} {
		for _, w := range known.words {
			if strings.Contains(raw, w) {
				return known.text
			}
		}
	}
	return Text{plain(raw), plain(raw)}
}
