@echo off
chcp 65001 >nul
rem Runs wakestream {program} again whenever it ends with an error.
set "{folder_variable}={folder}"
:again
{command}
if not %errorlevel%==0 ( timeout /t 5 >nul & goto again )
