@echo off
rem Make .venv beside this file, then run the four pipelines in order, one verb, or the
rem tests.
rem The twin of run.sh: what changes here changes there, and the reasons stand there.
rem
rem Programs are started through `cmd /d /c`, because `python` may be a batch file
rem (pyenv-win): started plainly it would not come back, and `call` would double the
rem carets in the arguments. The arguments go in by name, for the inner cmd to expand,
rem so that they are read once only. ARGS begins with a space because the name of an
rem empty variable would be left standing.
setlocal EnableExtensions DisableDelayedExpansion
set "REPO=%~dp0"
set "VENV=%REPO%.venv"
set "CALLER_PATH=%PATH%"
set PYTHONDONTWRITEBYTECODE=
set ARGS= %*
rem Redirected output would else be written in the console's old code page.
set PYTHONUTF8=1
set EXTRA=
if "%~1"=="--help" goto usage
if "%~1"=="-h" goto usage
if "%~1"=="test" goto test
if "%~1"=="help" set ARGS= --help
if "%~1"=="help" goto verb
if "%~1"=="--version" goto verb
set "FIRST=%~1"
if not defined FIRST goto pipelines
if not "%FIRST:~0,1%"=="-" goto verb

:pipelines
call :run_pipelines
rem A double click opens a window that closes with the last line: wait for a key. It is
rem told by its command line, `cmd /c ""C:\path\run.bat" "`.
set "LINE=%CMDCMDLINE:"=%"
if "%LINE:~-5%"==".bat " pause
exit /b %CODE%

rem Standard output belongs to the verb. -P: a folder `core` where the caller is must not
rem be taken for the project's.
:verb
call :prepare 1>&2
if not %CODE%==0 exit /b %CODE%
"%COMSPEC%" /d /c python -P -m core %%ARGS%%
exit /b %ERRORLEVEL%

:run_pipelines
call :prepare
if not %CODE%==0 exit /b %CODE%
call :run_script feature-preparation-pipeline.py
if not %CODE%==0 exit /b %CODE%
call :run_script autoencoder-training-pipeline.py
if not %CODE%==0 exit /b %CODE%
call :run_script clustering-training-pipeline.py
if not %CODE%==0 exit /b %CODE%
call :run_script clustering-inference-pipeline.py
exit /b %CODE%

:test
set ARGS= %ARGS:*test=%
set EXTRA=test
call :prepare
if not %CODE%==0 exit /b %CODE%
pushd "%REPO%"
"%COMSPEC%" /d /c python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder %%ARGS%%
call :check_step "python -m pytest"
popd
exit /b %CODE%

rem Bring .venv up to date; see core\stamp.py for the exit codes.
:prepare
if not exist "%VENV%\pyvenv.cfg" goto make_venv
set "PATH=%VENV%\Scripts;%CALLER_PATH%"
"%COMSPEC%" /d /c python -I "%REPO%core\stamp.py" begin %EXTRA% 2>nul
set CODE=%ERRORLEVEL%
if %CODE%==0 exit /b 0
if %CODE%==10 goto install
:make_venv
set "PATH=%CALLER_PATH%"
call :find_python
if not %CODE%==0 exit /b %CODE%
"%COMSPEC%" /d /c %%BASE%% -c "import ensurepip, venv" >nul 2>nul
set CODE=%ERRORLEVEL%
if %CODE%==0 goto has_venv
>&2 echo run.bat: %BASE% has no module `venv` or `ensurepip`. Install a full Python, not an embeddable one.
exit /b 1
:has_venv
echo run.bat: making %VENV%
rem The newest pip: an older one takes half as long again.
"%COMSPEC%" /d /c %%BASE%% -m venv --clear --upgrade-deps "%VENV%"
call :check_step "python -m venv"
if not %CODE%==0 exit /b %CODE%
:install
rem What activate.bat does.
set "PATH=%VENV%\Scripts;%CALLER_PATH%"
echo run.bat: installing the project (some minutes the first time)
"%COMSPEC%" /d /c python -I "%REPO%core\stamp.py" install %EXTRA%
call :check_step "python -m pip install"
exit /b %CODE%

rem Set BASE to the first interpreter that fits: PYTHON alone if it is set, else one that
rem the `py` launcher knows, the newest first, else `python`.
:find_python
set "FITS=import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))"
if not defined PYTHON goto find_installed
set BASE="%PYTHON%"
call :try_base
if %CODE%==0 exit /b 0
goto no_python
:find_installed
set BASE=py -3
call :try_base
if %CODE%==0 exit /b 0
set BASE=py -3.13
call :try_base
if %CODE%==0 exit /b 0
set BASE=py -3.12
call :try_base
if %CODE%==0 exit /b 0
set BASE=py -3.11
call :try_base
if %CODE%==0 exit /b 0
set BASE=python
call :try_base
if %CODE%==0 exit /b 0
:no_python
>&2 echo run.bat: Python 3.11, 3.12 or 3.13 is needed. Found, if anything:
if defined PYTHON goto show_named
"%COMSPEC%" /d /c py -3 --version 1>&2 2>nul
"%COMSPEC%" /d /c python --version 1>&2 2>nul
goto cure
:show_named
"%COMSPEC%" /d /c %%BASE%% --version 1>&2 2>nul
:cure
>&2 echo Install one of these, or name it: set PYTHON=C:\path\to\python.exe
set CODE=1
exit /b 1

:try_base
"%COMSPEC%" /d /c %%BASE%% -c "%%FITS%%" >nul 2>nul
set CODE=%ERRORLEVEL%
exit /b %CODE%

rem Windows has no request to terminate: Ctrl-C and a closed window reach every process,
rem `taskkill /T` ends them; what a killed step leaves is cleared by the next run.
:run_script
"%COMSPEC%" /d /c python "%REPO%%1" %%ARGS%%
call :check_step "%1"
exit /b %CODE%

rem Keep the exit code of the step just ended, and say so if it failed; a step that was
rem interrupted has said so itself.
:check_step
set CODE=%ERRORLEVEL%
if %CODE%==0 exit /b 0
if %CODE%==130 exit /b 130
>&2 echo run.bat: step failed: %~1 (exit code %CODE%)
exit /b %CODE%

:usage
echo Usage: run.bat [OPTIONS]         run the four pipelines on built-in or your own data
echo        run.bat VERB [OPTIONS]    anything else: refresh, axes, channels, baskets, serve
echo        run.bat help              list the verbs; run.bat VERB --help explains one
echo        run.bat test [OPTIONS]    run the tests; the options are pytest's
echo.
echo Options, each passed on to all four pipelines:
echo   --input PATH       your rows: CSV, Parquet or Excel; file, folder, glob or s3://
echo   --source NAME      sample (default, built in, offline) or kaggle
echo   --features NAME    behaviour (default) or baseline
echo   --artifacts DIR    folder of the results (default: artifacts, where you are)
echo   --config FILE      YAML file with any part of the configuration
echo   --seed N           seed of everything random (default: 42)
echo.
echo The first run makes a virtual environment, which takes some minutes; later runs use it.
echo set PYTHON=C:\path\to\python.exe chooses the interpreter it is made with (3.11 to 3.13).
exit /b 0
