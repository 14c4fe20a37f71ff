package journald

// Messages are the ids of messages that the catalogue explains (systemd/fermata.catalog). An id is never given to another message.
var Messages = map[string]string{
	"set taken":             "3ceaaf30814248eaa1d93080f9b439fc",
	"no set was taken":      "9dfb369bab134faea27655daa05f1119",
	"the hold did not last": "6301bbfca0c5454eaff9bb510944fe0c",
	"recovered":             "6fced11d2bd841e6a47a8387cdde8d51",
	"set deleted":           "3a124c647e024f05a7c1dce27f7695f5",
	"a set is kept for longer than its policy wants": "66080f174c9648e2acbd0ba3a1a6bcde",
	"backup reported": "b120a366f0bb49cfa2f2dc05873f9bd0",
	"a writer was not told how the backup went": "78b7d0ac84774ce0ae4cda11b43c589b",
	"pool":                           "2330fcf1562a44b8a8668d77e827062c",
	"configuration":                  "c1acc9906424450aa36bf9b3ddcb369d",
	"the configuration is read anew": "9ad9b9a25e78454da065a1c284cc4549",
	"set pinned":                     "993565976fba4662a6a730b7b12e9eed",
}
