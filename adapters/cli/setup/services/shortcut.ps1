# The texts are variables of the environment: quoted in the script they could be read as commands.
$link = (New-Object -ComObject WScript.Shell).CreateShortcut($env:WAKESTREAM_LINK)
$link.TargetPath = $env:WAKESTREAM_TARGET
$link.Arguments = $env:WAKESTREAM_ARGUMENTS
$link.WindowStyle = 7
$link.Save()
